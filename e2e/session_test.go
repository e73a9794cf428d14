package e2e

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// followPhases reads the account's events from the first one until the instance has reached the phases in their order.
func (c *client) followPhases(id string, within time.Duration, phases []string) error {
	lines, leave, err := c.stream("/api/events", "0", within)
	if err != nil {
		return err
	}
	defer leave()
	left := phases
	for len(left) > 0 && lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var e struct {
			Type    string `json:"type"`
			Subject string `json:"subject"`
			Data    struct {
				Phase string `json:"phase"`
			} `json:"data"`
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("events: %w in %s", err, data)
		}
		if e.Type == "instance.phase_reached" && strings.HasSuffix(e.Subject, id) && e.Data.Phase == left[0] {
			left = left[1:]
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("within %v the phases %v did not come: %v", within, left, lines.Err())
	}
	return nil
}

// stream opens an event stream for a limited time.
func (c *client) stream(path, lastID string, within time.Duration) (lines *bufio.Scanner, leave func(), err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), within)
	req, err := http.NewRequestWithContext(ctx, "GET", c.base+path, nil)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := cmp.Or(c.via, http.DefaultClient).Do(req)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	leave = func() { cancel(); res.Body.Close() }
	if res.StatusCode != http.StatusOK {
		leave()
		return nil, nil, fmt.Errorf("%s: status %d", path, res.StatusCode)
	}
	return bufio.NewScanner(res.Body), leave, nil
}

// watchBoot reads the boot report of the instance's machine until both its progress and its log are ready, and returns
// the report.
func (c *client) watchBoot(id string, within time.Duration) (report string, err error) {
	lines, leave, err := c.stream("/api/instances/"+id+"/boot", "", within)
	if err != nil {
		return "", err
	}
	defer leave()
	logged, ready := false, false
	for !(logged && ready) && lines.Scan() {
		report += lines.Text() + "\n"
		logged = logged || strings.HasPrefix(lines.Text(), `data: {"seq":`) && strings.Contains(lines.Text(), "phase=ready")
		ready = ready || strings.HasPrefix(lines.Text(), `data: {"phase":"ready"`) && strings.Contains(lines.Text(), `"progress":100`)
	}
	if !(logged && ready) {
		return report, fmt.Errorf("the boot report did not end within %v: %v", within, lines.Err())
	}
	return report, nil
}

// bridge opens one of the instance's WebSockets with a ticket, as a browser does.
func (c *client) bridge(ctx context.Context, id, kind, path string) (*websocket.Conn, error) {
	a, err := c.try("POST", "/api/instances/"+id+"/tickets", fmt.Sprintf(`{"kind":%q,"mode":"control"}`, kind))
	if err != nil || a.status != http.StatusCreated {
		return nil, fmt.Errorf("ticket: %d %s %w", a.status, a.body, err)
	}
	conn, res, err := websocket.Dial(ctx, c.base+"/api/instances/"+id+"/"+path, &websocket.DialOptions{
		Subprotocols: []string{"binary", "ticket." + a.field("ticket")},
		HTTPHeader:   http.Header{"Origin": {cmp.Or(c.origin, c.base)}}, HTTPClient: c.via,
	})
	if err != nil && res != nil {
		text, _ := io.ReadAll(res.Body)
		err = fmt.Errorf("%w: %s", err, text)
	}
	if conn != nil {
		conn.SetReadLimit(32 << 20)
	}
	return conn, err
}

type shot struct {
	name                   string
	width, height, colours int
}

// screenshot looks at the desktop through the VNC bridge until it shows more than one colour, for at most 10 s.
func (c *client) screenshot(id string) (shot, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 60*time.Second)
	defer cancel()
	ws, err := c.bridge(ctx, id, "vnc", "vnc")
	if err != nil {
		return shot{}, err
	}
	defer ws.CloseNow()
	conn := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	s, err := rfbHello(conn)
	if err != nil {
		return s, fmt.Errorf("RFB handshake: %w", err)
	}
	for s.colours < 2 && err == nil {
		s.colours, err = rfbColours(conn, s.width, s.height)
	}
	return s, err
}

// rfbHello does the client's part of RFB 3.8 with security type None, and asks for raw rectangles.
func rfbHello(conn io.ReadWriter) (s shot, err error) {
	b := make([]byte, 12)
	if _, err = io.ReadFull(conn, b); err != nil {
		return s, err
	}
	if _, err = conn.Write([]byte("RFB 003.008\n")); err != nil {
		return s, err
	}
	if _, err = io.ReadFull(conn, b[:1]); err != nil {
		return s, err
	}
	types := make([]byte, b[0])
	if _, err = io.ReadFull(conn, types); err != nil {
		return s, err
	}
	if !slices.Contains(types, 1) {
		return s, fmt.Errorf("security types %v, want None", types)
	}
	if _, err = conn.Write([]byte{1}); err != nil {
		return s, err
	}
	if _, err = io.ReadFull(conn, b[:4]); err != nil || binary.BigEndian.Uint32(b) != 0 {
		return s, fmt.Errorf("security result %v %w", b[:4], err)
	}
	if _, err = conn.Write([]byte{1}); err != nil { // shared
		return s, err
	}
	init := make([]byte, 24)
	if _, err = io.ReadFull(conn, init); err != nil {
		return s, err
	}
	name := make([]byte, binary.BigEndian.Uint32(init[20:]))
	if _, err = io.ReadFull(conn, name); err != nil {
		return s, err
	}
	s = shot{name: string(name), width: int(binary.BigEndian.Uint16(init)), height: int(binary.BigEndian.Uint16(init[2:]))}
	_, err = conn.Write([]byte{
		0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, // SetPixelFormat: 32 bits, true colour
		2, 0, 0, 1, 0, 0, 0, 0, // SetEncodings: raw
	})
	return s, err
}

// rfbColours asks for the whole picture and counts its colours.
func rfbColours(conn io.ReadWriter, width, height int) (int, error) {
	ask := []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(ask[6:], uint16(width))
	binary.BigEndian.PutUint16(ask[8:], uint16(height))
	if _, err := conn.Write(ask); err != nil {
		return 0, err
	}
	head := make([]byte, 4)
	colours := map[uint32]bool{}
	for {
		if _, err := io.ReadFull(conn, head[:1]); err != nil {
			return 0, err
		}
		switch head[0] {
		case 0: // FramebufferUpdate
		case 2: // Bell
			continue
		case 3: // ServerCutText
			b := make([]byte, 7)
			if _, err := io.ReadFull(conn, b); err != nil {
				return 0, err
			}
			if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(b[3:]))); err != nil {
				return 0, err
			}
			continue
		default:
			return 0, fmt.Errorf("server message %d", head[0])
		}
		if _, err := io.ReadFull(conn, head[1:]); err != nil {
			return 0, err
		}
		for range binary.BigEndian.Uint16(head[2:]) {
			rect := make([]byte, 12)
			if _, err := io.ReadFull(conn, rect); err != nil {
				return 0, err
			}
			pixels := make([]byte, 4*int(binary.BigEndian.Uint16(rect[4:]))*int(binary.BigEndian.Uint16(rect[6:])))
			if _, err := io.ReadFull(conn, pixels); err != nil {
				return 0, err
			}
			for i := 0; i < len(pixels); i += 4 {
				colours[binary.LittleEndian.Uint32(pixels[i:])&0xffffff] = true
			}
		}
		return len(colours), nil
	}
}

// chat sends a message to the agent and returns its streamed answer and the number of parts it came in.
func (c *client) chat(id, message string) (deltas int, text string, err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 90*time.Second)
	defer cancel()
	ws, err := c.bridge(ctx, id, "cloudbot", "cloudbot")
	if err != nil {
		return 0, "", err
	}
	defer ws.CloseNow()
	type frame struct {
		Type    string `json:"type"`
		ID      string `json:"id"`
		OK      bool   `json:"ok"`
		Event   string `json:"event"`
		Payload struct {
			Type      string `json:"type"`
			Status    string `json:"status"`
			State     string `json:"state"`
			RunID     string `json:"runId"`
			DeltaText string `json:"deltaText"`
		} `json:"payload"`
	}
	read := func() (f frame, err error) {
		_, data, err := ws.Read(ctx)
		if err == nil {
			err = json.Unmarshal(data, &f)
		}
		return f, err
	}
	hello, err := read()
	if err != nil || hello.Payload.Type != "hello-ok" {
		return 0, "", fmt.Errorf("hello: %+v %w", hello, err)
	}
	run := fmt.Sprint("run-", time.Now().UnixNano())
	send := fmt.Sprintf(`{"type":"req","id":"s1","method":"chat.send","params":{"sessionKey":"main","message":%q,"idempotencyKey":%q}}`, message, run)
	if err := ws.Write(ctx, websocket.MessageText, []byte(send)); err != nil {
		return 0, "", err
	}
	started := false
	for {
		f, err := read()
		switch {
		case err != nil:
			return deltas, text, err
		case f.ID == "s1":
			if started = f.OK; !started {
				return 0, "", fmt.Errorf("chat.send refused: %+v", f)
			}
		case f.Event == "chat" && f.Payload.RunID == run && f.Payload.State == "delta":
			deltas++
			text += f.Payload.DeltaText
		case f.Event == "chat" && f.Payload.RunID == run && f.Payload.State == "final":
			if !started {
				return 0, "", fmt.Errorf("final before chat.send was answered")
			}
			return deltas, text, nil
		}
	}
}

// leftOf returns what remains of an instance's machine on this computer: its folder, and processes that name it in their
// arguments or working folder.
func (s *server) leftOf(id string) []string {
	var left []string
	folders, _ := filepath.Glob(filepath.Join(s.dir, "machines", "*", "*"))
	for _, f := range folders {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), id) && filepath.Base(f) != "ledger.jsonl" {
			left = append(left, f)
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		args, _ := os.ReadFile(p)
		cwd, _ := os.Readlink(filepath.Join(filepath.Dir(p), "cwd"))
		text := string(args) + " " + cwd
		if strings.Contains(text, filepath.Join(s.dir, "machines")+"/") {
			left = append(left, strings.ReplaceAll(text, "\x00", " "))
		}
	}
	return left
}

// eventTypes returns the types of the log's events that match the flags of `cloudbot events`.
func (s *server) eventTypes(flags ...string) []string {
	var types []string
	for l := range strings.Lines(s.cli(append([]string{"events"}, flags...)...)) {
		var e struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			s.t.Fatal(err)
		}
		types = append(types, e.Type)
	}
	return types
}
