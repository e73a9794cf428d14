package desktop

import (
	"errors"
	"image"
	"image/color"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/notice"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/guest/x11"
	"github.com/cloudbot-ai/control-plane/guest/xevents"
)

// noticed is a desktop's screen with what a notice changes there.
type noticed struct {
	t *testing.T
	x *x11.Display
}

func (n noticed) window() x11.Window {
	n.t.Helper()
	w, err := n.x.Find(notice.Title, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	return w
}

func (n noticed) place(w x11.Window) image.Rectangle {
	n.t.Helper()
	at, err := n.x.Place(w)
	if err != nil {
		n.t.Fatal(err)
	}
	return at
}

func (n noticed) look() *image.RGBA {
	n.t.Helper()
	m, err := n.x.Look()
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// ink returns how many pixels of a place have the colour of a notice's letters.
func ink(m *image.RGBA, at image.Rectangle) (n int) {
	for y := at.Min.Y; y < at.Max.Y; y++ {
		for x := at.Min.X; x < at.Max.X; x++ {
			if m.RGBAAt(x, y) == (color.RGBA{0xe8, 0xee, 0xf2, 0xff}) {
				n++
			}
		}
	}
	return n
}

// clicksFocus has a window manager give the keyboard to new windows, and to one that is clicked, which it also raises.
const clicksFocus = `<openbox_config xmlns="http://openbox.org/3.4/rc"><focus><focusNew>yes</focusNew></focus><mouse>
<context name="Client"><mousebind button="Left" action="Press"><action name="Focus"/><action name="Raise"/></mousebind></context>
</mouse></openbox_config>`

// TestNotice shows a notice on a real display, above a window that is raised, and hides it with a click. The keyboard stays
// with the window that had it.
func TestNotice(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"Xvnc", "x11vnc"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			if look("xterm") == "" {
				t.Skip("xterm is not installed")
			}
			settings := filepath.Join(t.TempDir(), "rc.xml")
			if err := os.WriteFile(settings, []byte(clicksFocus), 0o644); err != nil {
				t.Fatal(err)
			}
			d := run(t, server, t.TempDir(), nil, "openbox", "--config-file", settings)
			env, _ := d.Env()
			x, err := x11.Open(t.Context(), env)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			n := noticed{t, x}
			await(t, func() bool { managed, err := x.Managed(); return err == nil && managed })
			c := exec.CommandContext(t.Context(), "xterm", "-T", "user's", "-geometry", "100x30+0+0", "-e", "sleep", "100000")
			c.Env = []string{"DISPLAY=" + env["DISPLAY"], "XAUTHORITY=" + env["XAUTHORITY"]}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
			var users x11.Window
			await(t, func() bool {
				var err error
				users, err = x.Find("user's", 0)
				return err == nil && users != 0
			})
			place := n.place(users)
			click := func(at image.Point) {
				t.Helper()
				if err := x.Move(at.X, at.Y); err != nil {
					t.Fatal(err)
				}
				if err := x.Click(); err != nil {
					t.Fatal(err)
				}
			}
			below := image.Pt(place.Min.X+50, place.Max.Y-20)
			click(below)
			focused := func() bool { ok, err := x.Focused(users); return err == nil && ok }
			await(t, focused)

			d.Notice(wire.Notice{Text: "CloudBot will stop this desktop at 18:30 UTC. No input since 18:02.", For: 600_000, Count: true})
			await(t, func() bool { return n.window() != 0 })
			w := n.window()
			at := n.place(w)
			if at.Min.Y != 0 || at.Min.X != 640-at.Max.X || at.Dx() < 300 || at.Dy() < 40 {
				t.Errorf("place: got %v, want the top centre of 640 × 480", at)
			}
			await(t, func() bool { return ink(n.look(), at) > 500 })
			if !focused() {
				t.Error("the keyboard: got it taken, want it with the user's window")
			}
			click(below) // raises the user's window
			if err := x.Remap(users); err != nil {
				t.Fatal(err)
			}
			await(t, func() bool { return ink(n.look(), at) > 500 && focused() })

			cover, err := xevents.Dial(d.number, env["XAUTHORITY"], nil)
			if err != nil {
				t.Fatal(err)
			}
			defer cover.Close()
			const createWindow, mapWindow, overrideRedirect = 1, 8, 1 << 9
			id := cover.NewID()
			create := xevents.U16(xevents.U32([]byte{createWindow, 0, 0, 0}, id, cover.Root), 0, 0, 640, 200, 0, 1)
			if err := errors.Join(cover.Send(xevents.U32(create, 0, 1<<1|overrideRedirect, 0, 1)...), cover.Send(xevents.U32([]byte{mapWindow, 0, 0, 0}, id)...), cover.Sync()); err != nil {
				t.Fatal(err)
			}
			await(t, func() bool { return ink(n.look(), at) > 500 && n.look().RGBAAt(2, 150) == color.RGBA{A: 255} })

			middle := image.Pt((at.Min.X+at.Max.X)/2, (at.Min.Y+at.Max.Y)/2)
			click(middle)
			await(t, func() bool { return n.window() == 0 })
			if !focused() {
				t.Error("after the click: got the keyboard taken, want it with the user's window")
			}
			d.Notice(wire.Notice{Text: "Another.", For: 600_000})
			await(t, func() bool { return n.window() != 0 })
			d.Notice(wire.Notice{})
			await(t, func() bool { return n.window() == 0 })
			d.Notice(wire.Notice{Text: "A short one.", For: 1000})
			await(t, func() bool { return n.window() != 0 })
			await(t, func() bool { return n.window() == 0 })
			d.Notice(wire.Notice{Text: "The desktop ends while this is seen.", For: 600_000})
			await(t, func() bool { return n.window() != 0 })
		})
	}
}

// TestNoticeOnTheBuiltInScreen shows a notice to a viewer of the built-in screen.
func TestNoticeOnTheBuiltInScreen(t *testing.T) {
	t.Parallel()
	d, err := New(Config{Kind: BuiltIn, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	before := d.screen.Pixel(30, 780)
	d.Notice(wire.Notice{Text: "CloudBot will stop this desktop.", For: time.Hour.Milliseconds(), Count: true})
	await(t, func() bool { return d.screen.Pixel(30, 780) != before })
	d.Notice(wire.Notice{})
	await(t, func() bool { return d.screen.Pixel(30, 780) == before })
}
