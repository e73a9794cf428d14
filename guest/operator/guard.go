package operator

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"time"
)

// Limits of a connection until its connect frame.
const (
	maxConnect    = 64 << 10  // bytes of the frame, as for the gateway
	maxBefore     = 128 << 10 // bytes of the head and the frame
	connectArrive = 30 * time.Second
)

// Guard serves connections of the control plane to the gateway, for browsers. It takes only a WebSocket whose first frame is
// a connect without an administrator's rights, with the token known there, and puts the gateway's own token in its place.
// So the control plane cannot become an administrator of the gateway.
func Guard(known, token string, serve func(context.Context, net.Conn) error) func(context.Context, net.Conn) error {
	return func(ctx context.Context, c net.Conn) error {
		defer c.Close()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		near, far := net.Pipe()
		stop := context.AfterFunc(ctx, func() { c.Close(); near.Close() })
		defer stop()
		ended := make(chan error, 2)
		go func() { ended <- serve(ctx, far); near.Close() }()
		go func() { _, err := io.Copy(c, near); cancel(); ended <- err }()
		err := forward(ctx, c, near, known, token)
		cancel()
		near.Close()
		c.Close()
		<-ended
		<-ended
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

// forward checks the beginning of a connection and copies the rest.
func forward(ctx context.Context, c, gateway net.Conn, known, token string) error {
	_ = c.SetReadDeadline(time.Now().Add(connectArrive))
	bounded := &io.LimitedReader{R: c, N: maxBefore}
	r := bufio.NewReader(bounded)
	req, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	if req.Method != http.MethodGet || req.Header.Get("Upgrade") != "websocket" || req.ContentLength > 0 || len(req.TransferEncoding) > 0 {
		return errors.New("only a WebSocket to the agent is allowed")
	}
	head := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}}
	for _, name := range []string{"Sec-Websocket-Key", "Sec-Websocket-Version"} {
		head.Set(name, req.Header.Get(name))
	}
	// A Request would write headers of its own.
	if _, err := io.WriteString(gateway, "GET / HTTP/1.1\r\nHost: 127.0.0.1:18789\r\n"); err != nil {
		return err
	}
	if err := head.Write(gateway); err != nil {
		return err
	}
	if _, err := io.WriteString(gateway, "\r\n"); err != nil {
		return err
	}
	text, err := readFrame(r)
	if err != nil {
		return err
	}
	if text, err = admitted(text, known, token); err != nil {
		return err
	}
	if _, err := gateway.Write(frameOf(text)); err != nil {
		return err
	}
	bounded.N = math.MaxInt64
	_ = c.SetReadDeadline(time.Time{})
	if ctx.Err() != nil { // the line above may have undone the end of c's reads
		return net.ErrClosed
	}
	_, err = io.Copy(gateway, r)
	return err
}

// connect is the frame as the gateway gets it: nothing but these fields.
type connect struct {
	Type   string `json:"type"`
	ID     string `json:"id"`
	Method string `json:"method"`
	Params struct {
		MinProtocol int      `json:"minProtocol"`
		MaxProtocol int      `json:"maxProtocol"`
		Role        string   `json:"role"`
		Scopes      []string `json:"scopes"`
		Caps        []string `json:"caps"`
		Client      struct {
			ID       string `json:"id"`
			Version  string `json:"version"`
			Platform string `json:"platform"`
			Mode     string `json:"mode"`
		} `json:"client"`
		Auth struct {
			Token string `json:"token"`
		} `json:"auth"`
	} `json:"params"`
}

var browserScopes = []string{"operator.read", "operator.write", "operator.approvals", "operator.questions"}

// admitted returns the connect frame for the gateway.
func admitted(text []byte, known, token string) ([]byte, error) {
	var f connect
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, err
	}
	p := &f.Params
	if f.Type != "req" || f.Method != "connect" || p.Role != "operator" {
		return nil, errors.New("the first frame to the agent is not connect")
	}
	for _, s := range p.Scopes {
		if !slices.Contains(browserScopes, s) {
			return nil, fmt.Errorf("the scope %.40q is not for the control plane", s)
		}
	}
	if subtle.ConstantTimeCompare([]byte(p.Auth.Token), []byte(known)) != 1 {
		return nil, errors.New("wrong token for the agent")
	}
	p.Auth.Token = token
	if p.Scopes == nil {
		p.Scopes = []string{}
	}
	if p.Caps == nil {
		p.Caps = []string{}
	}
	b, err := json.Marshal(f)
	if err == nil && len(b) > maxConnect-1 {
		err = errors.New("the first frame to the agent is too long")
	}
	return b, err
}

// readFrame reads one whole text message of a WebSocket's client, in one frame.
func readFrame(r io.Reader) ([]byte, error) {
	head := make([]byte, 2, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := int(head[1] & 0x7f)
	if head[0] != 0x81 || head[1]&0x80 == 0 || size == 127 { // final, text, masked, below 64 KiB
		return nil, errors.New("the first frame to the agent is not a short text")
	}
	if size == 126 {
		if _, err := io.ReadFull(r, head[:2]); err != nil {
			return nil, err
		}
		size = int(binary.BigEndian.Uint16(head))
	}
	mask := head[:4]
	if _, err := io.ReadFull(r, mask); err != nil {
		return nil, err
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, err
	}
	for i := range text {
		text[i] ^= mask[i%4]
	}
	return text, nil
}

// frameOf is the inverse of readFrame, with a mask of zeros.
func frameOf(text []byte) []byte {
	b := []byte{0x81, 0x80 | 126, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(min(len(text), math.MaxUint16)))
	if len(text) < 126 { // a length has only one form
		b = []byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}
	}
	return append(b, text...)
}
