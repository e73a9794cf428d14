package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// viewers look at desktops and come back as the dashboard does: after the time that a close 1012 names, or else after a
// growing pause.
type viewers struct {
	open atomic.Int64 // that have a picture

	mu     sync.Mutex
	closes map[string]int // by close code
	denied map[string]int // refused attempts, by status and code
	away   []absence
}

// absence is one viewer's time from the end of a connection to the next picture.
type absence struct {
	code  string
	since time.Time
	took  time.Duration
}

const (
	firstPause = 500 * time.Millisecond // as in web/src/bridge/reconnect.ts
	longPause  = 20 * time.Second
)

// watch keeps one viewer on the desktop until ctx ends.
func (v *viewers) watch(ctx context.Context, c *client, instance string) {
	var last absence
	for failures := 0; ctx.Err() == nil; {
		code, reason, seen := v.look(ctx, c, instance, func() {
			if !last.since.IsZero() {
				v.mu.Lock()
				v.away = append(v.away, absence{last.code, last.since, time.Since(last.since)})
				v.mu.Unlock()
			}
		})
		if ctx.Err() != nil {
			return
		}
		v.mu.Lock()
		if seen {
			failures, last = 0, absence{code: code, since: time.Now()}
			v.closes[code]++
		} else {
			v.denied[code]++
		}
		v.mu.Unlock()
		pause := min(firstPause<<min(failures, 10), longPause)
		pause = pause/2 + rand.N(pause/2)
		failures++
		if reason > 0 {
			pause = reason
		}
		_ = retry.Sleep(ctx, pause)
	}
}

// look opens the desktop, calls back when it has a picture, and looks until the connection ends. It returns how that
// happened, the pause that the server asked for, and whether there was a picture.
func (v *viewers) look(ctx context.Context, c *client, instance string, picture func()) (code string, pause time.Duration, seen bool) {
	ws, code, pause := c.openDesktop(ctx, instance)
	if ws == nil {
		return code, pause, false
	}
	defer ws.CloseNow()
	conn := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	_, err := rfbHello(conn)
	for err == nil {
		if err = part(conn, seen); err == nil && !seen {
			seen = true
			picture()
			v.open.Add(1)
			defer v.open.Add(-1)
		}
	}
	var told websocket.CloseError
	if !errors.As(err, &told) {
		return "broken", 0, seen
	}
	var asked struct {
		RetryMS int `json:"retry_ms"`
	}
	_ = json.Unmarshal([]byte(told.Reason), &asked)
	return strconv.Itoa(int(told.Code)), time.Duration(asked.RetryMS) * time.Millisecond, seen
}

// part asks for a part of the picture, or for its next change, and reads the answer. The built-in screen has a clock in
// its upper part.
func part(conn io.ReadWriter, change bool) error {
	ask := []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if change {
		ask[1] = 1
	}
	binary.BigEndian.PutUint16(ask[6:], 320)
	binary.BigEndian.PutUint16(ask[8:], 40)
	if _, err := conn.Write(ask); err != nil {
		return err
	}
	head := make([]byte, 4)
	for {
		if _, err := io.ReadFull(conn, head[:1]); err != nil {
			return err
		}
		if head[0] == 0 {
			break
		}
		if head[0] != 2 { // Bell
			return fmt.Errorf("server message %d", head[0])
		}
	}
	if _, err := io.ReadFull(conn, head[1:]); err != nil {
		return err
	}
	for range binary.BigEndian.Uint16(head[2:]) {
		rect := make([]byte, 12)
		if _, err := io.ReadFull(conn, rect); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, conn, 4*int64(binary.BigEndian.Uint16(rect[4:]))*int64(binary.BigEndian.Uint16(rect[6:]))); err != nil {
			return err
		}
	}
	return nil
}

// openDesktop gets a ticket and opens the desktop. If it is refused, it returns by what, and the pause that was asked for.
func (c *client) openDesktop(ctx context.Context, instance string) (ws *websocket.Conn, code string, pause time.Duration) {
	a, err := c.try("POST", "/api/instances/"+instance+"/tickets", `{"kind":"vnc","mode":"control"}`)
	if err != nil || a.status != http.StatusCreated {
		return nil, fmt.Sprintf("ticket %d %s %v", a.status, a.field("code"), err), after(a.header)
	}
	header := http.Header{"Origin": {c.base}}
	if c.from != "" {
		header.Set("X-Forwarded-For", c.from)
	}
	ws, res, err := websocket.Dial(ctx, c.base+"/api/instances/"+instance+"/vnc", &websocket.DialOptions{
		Subprotocols: []string{"binary", "ticket." + a.field("ticket")}, HTTPHeader: header,
	})
	if err == nil {
		ws.SetReadLimit(32 << 20)
		return ws, "", 0
	}
	if res == nil {
		return nil, "socket: no answer", 0
	}
	text, _ := io.ReadAll(res.Body)
	return nil, fmt.Sprintf("socket %d %s", res.StatusCode, (answer{body: text}).field("code")), after(res.Header)
}

// after is what Retry-After asks for, with the dashboard's spread; 0: nothing.
func after(h http.Header) time.Duration {
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s == 0 {
		return 0
	}
	d := time.Duration(s) * time.Second
	return d + rand.N(d/4)
}
