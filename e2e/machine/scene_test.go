package machine

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/agent/modeltest"
)

// scene is a desktop with its real agent, whose model the test plays.
type scene struct {
	*user
	t         *testing.T
	id        string
	model     *modeltest.Model
	view      *viewer // of the user, who watches all the time
	out       string  // folder of pictures
	edit      string  // command that opens an editor with a new file
	insert    string  // keys before the text
	save      []use   // has it write the file
	read      func() string
	start     func(command string) // runs a program as the user, and keeps what it writes
	recorded  func() string        // what that has written
	page      string               // address of a page in pageColour
	xdotool   bool                 // the desktop has this program
	processes func() string        // of the desktop's user, for a failure
	runs      int
}

// use is one call of a tool.
type use struct{ tool, args string }

// pageColour fills the page that the agent opens. Nothing else on a desktop has it.
var pageColour = color.RGBA{0x8f, 0x2b, 0xd4, 0xff}

// glColour fills the page that WebGL draws at /webgl.
var glColour = color.RGBA{0x1e, 0xb4, 0x6a, 0xff}

// glPage draws until it is closed: a context that is lost shows.
const glPage = `<!doctype html><title>WebGL</title><body style="margin:0;background:#fff"><canvas id=c width=800 height=500></canvas><script>
const gl = c.getContext("webgl")
function draw() {
  gl.clearColor(%d / 255, %d / 255, %d / 255, 1)
  gl.clear(gl.COLOR_BUFFER_BIT)
  requestAnimationFrame(draw)
}
draw()
</script>`

// servePage serves the pages until the test ends, and returns their address.
func servePage(t *testing.T, l net.Listener) string {
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/webgl" {
			fmt.Fprintf(w, glPage, glColour.R, glColour.G, glColour.B)
			return
		}
		fmt.Fprintf(w, `<!doctype html><title>The page</title><body style="background:#%02x%02x%02x;color:#fff;font:64px serif">The page of the test`,
			pageColour.R, pageColour.G, pageColour.B)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "http://localhost:" + port + "/"
}

// play sends a message to the agent and lets script be its model.
func (s *scene) play(message string, script func(*modeltest.Turn)) {
	s.t.Helper()
	s.runs++
	run := fmt.Sprint("scene-", s.runs)
	began := time.Now()
	text, err := s.model.Play(func() (string, error) {
		_, text, err := s.chat(s.id, run, message)
		return text, err
	}, script)
	if err != nil || text != modeltest.Words {
		_, log := s.do("GET", "/api/instances/"+s.id+"/debug/log", "")
		s.t.Fatalf("%s: got %q %v, want %q and no error\nlog: %s", message, text, err, modeltest.Words, log[max(0, len(log)-5000):])
	}
	s.t.Logf("%s: %.1fs", message, time.Since(began).Seconds())
}

// worksOnTheDesktop has the model look at the screen, write a text with the editor, share mouse and keyboard with the user,
// and open a page in the browser.
func (s *scene) worksOnTheDesktop() {
	s.t.Helper()
	s.play("look", func(u *modeltest.Turn) { s.sees(u, "1-desktop") })
	s.play("write", s.writes)
	s.takesControl()
	s.play("browse", s.browses)
}

// sees takes a screenshot and checks that it is what the user sees at that time.
func (s *scene) sees(u *modeltest.Turn, name string) {
	s.t.Helper()
	got := u.Look()
	s.paint()
	s.keep(name+"-user.png", nil)
	s.keep(name+"-agent."+got.Format, got.Raw)
	if d := difference(got.Picture, s.view.m); d > alike {
		s.t.Errorf("%s: got a picture that differs from the user's by %d of 255, want at most %d", name, d, alike)
	} else {
		s.t.Logf("%s: the model's %s of %v differs from the user's picture of %v by %d of 255", name, got.Format, got.Picture.Bounds().Size(), s.view.m.Rect.Size(), d)
	}
	// The measure is good enough to refuse other pictures.
	for what, other := range map[string]image.Image{"a black picture": image.NewRGBA(s.view.m.Rect), "a mirrored picture": mirrored(s.view.m)} {
		if d := difference(got.Picture, other); d <= alike {
			s.t.Errorf("%s: got a difference of %d from %s, want more than %d", name, d, what, alike)
		}
	}
}

// writes opens the editor, clicks into it, types, and saves.
func (s *scene) writes(u *modeltest.Turn) {
	s.t.Helper()
	s.paint()
	empty := s.copy()
	opened := u.Use("exec", fmt.Sprintf(`{"command":%q}`, s.edit))
	var editor image.Rectangle
	s.until("the editor's window", func() bool {
		editor = window(empty, s.view.m)
		return editor.Dx() > 300 && editor.Dy() > 200
	}, opened)
	u.Look()
	clicked := u.Click(editor.Min.Add(editor.Size().Div(2)), s.view.m.Rect.Size())
	if !clicked.OK() {
		s.t.Errorf("click into the editor: got %s, want it done", clicked)
	}
	s.paint()
	before := s.copy()
	typed := u.Use("computer", fmt.Sprintf(`{"action":"type","text":%q}`, s.insert+sentence))
	s.until("the text in the editor", func() bool { return differ(before, s.view.m, editor) > 200 }, clicked, typed)
	s.t.Logf("typing changed %d pixels of the user's picture within the editor at %v", differ(before, s.view.m, editor), editor)
	s.sees(u, "2-editor")
	for _, call := range s.save {
		u.Use(call.tool, call.args)
	}
	await(s.t, 20*time.Second, "the file with the text", func() bool { return strings.Contains(s.read(), sentence) })
}

const sentence = "The agent wrote this."

// browses opens the page in the browser of the agent, which is a window on the desktop.
func (s *scene) browses(u *modeltest.Turn) {
	s.t.Helper()
	var all []modeltest.Result
	for _, args := range []string{`{"action":"start"}`, fmt.Sprintf(`{"action":"open","url":%q}`, s.page)} {
		all = append(all, u.Use("tool_call", fmt.Sprintf(`{"id":"browser","args":%s}`, args)))
	}
	s.until("the page", func() bool { return s.coloured(pageColour) > 200_000 }, all...)
	s.t.Logf("the page has %d pixels of the user's picture", s.coloured(pageColour))
	s.sees(u, "3-browser")
	opened := u.Use("tool_call", fmt.Sprintf(`{"id":"browser","args":{"action":"open","url":%q}}`, s.page+"webgl"))
	s.until("the page with WebGL", func() bool { return s.coloured(glColour) > 200_000 }, opened)
	s.t.Logf("WebGL has %d pixels of the user's picture", s.coloured(glColour))
	s.keep("4-webgl-user.png", nil)
	u.Use("tool_call", `{"id":"browser","args":{"action":"stop"}}`)
}

// coloured counts the pixels in a colour.
func (s *scene) coloured(want color.RGBA) (n int) {
	for i := 0; i < len(s.view.m.Pix); i += 4 {
		if [3]byte(s.view.m.Pix[i:i+3]) == [3]byte{want.R, want.G, want.B} {
			n++
		}
	}
	return n
}

// copy returns the user's picture.
func (s *scene) copy() *image.RGBA {
	m := *s.view.m
	m.Pix = slices.Clone(m.Pix)
	return &m
}

// until paints the user's picture until ok returns true.
func (s *scene) until(what string, ok func() bool, came ...modeltest.Result) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for s.paint(); !ok(); s.paint() {
		select {
		case <-ctx.Done():
			s.keep("missing.png", nil)
			s.t.Fatalf("waited for %s on the user's screen; the model got: %v\nprocesses: %s", what, came, s.processes())
		case <-tick.C:
		}
	}
	s.paint()
}

// paint gets the user's picture, once it has stopped changing.
func (s *scene) paint() {
	s.t.Helper()
	for range 20 {
		before := string(s.view.m.Pix)
		if err := s.view.paint(); err != nil {
			s.t.Fatalf("the user's picture: %v", err)
		}
		if before == string(s.view.m.Pix) {
			return
		}
	}
}

// keep writes a picture into the folder; raw nil: the user's.
func (s *scene) keep(name string, raw []byte) {
	s.t.Helper()
	file := filepath.Join(s.out, name)
	err := os.MkdirAll(s.out, 0o755)
	if err == nil && raw == nil {
		err = savePNG(file, s.view.m)
	} else if err == nil {
		err = os.WriteFile(file, raw, 0o644)
	}
	if err != nil {
		s.t.Error(err)
	}
}

// alike is the most that two pictures of one screen differ by, after scaling and compression.
const alike = 24

// difference compares two pictures, of any size, as thumbnails of 32 by 20: the largest difference of a colour there.
func difference(a, b image.Image) (most int) {
	x, y := thumbnail(a), thumbnail(b)
	for i := range x {
		most = max(most, x[i]-y[i], y[i]-x[i])
	}
	return most
}

// thumbnail returns the average colours of 32 by 20 blocks.
func thumbnail(m image.Image) (t [32 * 20 * 3]int) {
	var n [32 * 20]int
	b := m.Bounds()
	for y := range b.Dy() {
		for x := range b.Dx() {
			i := y*20/b.Dy()*32 + x*32/b.Dx()
			red, green, blue, _ := m.At(b.Min.X+x, b.Min.Y+y).RGBA()
			n[i]++
			for c, v := range []uint32{red, green, blue} {
				t[3*i+c] += int(v >> 8)
			}
		}
	}
	for i := range t {
		t[i] /= max(1, n[i/3])
	}
	return t
}

func mirrored(m *image.RGBA) *image.RGBA {
	other := image.NewRGBA(m.Rect)
	for y := range m.Rect.Dy() {
		for x := range m.Rect.Dx() {
			other.SetRGBA(x, y, m.RGBAAt(m.Rect.Dx()-1-x, y))
		}
	}
	return other
}

// differ counts the pixels that differ within a part of two pictures of one size.
func differ(a, b *image.RGBA, part image.Rectangle) (n int) {
	for y := part.Min.Y; y < part.Max.Y; y++ {
		for x := part.Min.X; x < part.Max.X; x++ {
			if a.RGBAAt(x, y) != b.RGBAAt(x, y) {
				n++
			}
		}
	}
	return n
}

// window returns the largest rectangle that differs, such as a window that opened.
func window(a, b *image.RGBA) image.Rectangle {
	size := a.Rect.Max
	left, right := run(size.X, func(x int) int { return differ(a, b, image.Rect(x, 0, x+1, size.Y)) })
	top, bottom := run(size.Y, func(y int) int { return differ(a, b, image.Rect(left, y, right, y+1)) })
	return image.Rect(left, top, right, bottom)
}

// run returns the longest run of lines that differ in at least half as many pixels as the one that differs most. The title
// of another window, which fades, is a shorter run.
func run(n int, count func(line int) int) (first, end int) {
	counts := make([]int, n)
	for i := range counts {
		counts[i] = count(i)
	}
	half, began := max(1, slices.Max(counts)/2), 0
	for i, c := range counts {
		if c < half {
			began = i + 1
		} else if i+1-began > end-first {
			first, end = began, i+1
		}
	}
	return first, end
}
