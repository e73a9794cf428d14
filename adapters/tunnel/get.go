package tunnel

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// maxAnswer bounds what is read of a diagnostic answer.
const maxAnswer = 1 << 20

// Get asks the machine's own diagnostics: path is "/log", "/check", "/debug" or "/testapi". It follows
// no redirect. The text is the machine's: show it as text only. Errors are Open's, or what broke.
func (h *Hub) Get(ctx context.Context, instanceID, path string) (status int, contentType string, body []byte, err error) {
	conn, _, err := h.Open(ctx, instanceID, wire.HTTP)
	if err != nil {
		return 0, "", nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://machine"+path, nil)
	if err != nil {
		return 0, "", nil, err
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return 0, "", nil, fmt.Errorf("ask the machine for %s: %w", path, err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return 0, "", nil, fmt.Errorf("ask the machine for %s: %w", path, err)
	}
	defer res.Body.Close()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, res.Header.Get("Content-Type"), body, err
}
