package desktop

import (
	"context"
	"image"
	"log/slog"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/viewers"
	"github.com/cloudbot-ai/control-plane/guest/x11"
)

// TestLargeProgramsFillTheScreen has a window manager without settings of ours, as on a machine with XFCE.
func TestLargeProgramsFillTheScreen(t *testing.T) {
	t.Parallel()
	if look("xterm") == "" {
		t.Skip("xterm is not installed")
	}
	d := run(t, "Xvnc", t.TempDir(), nil, "openbox", "--config-file", "/dev/null")
	env, _ := d.Env()
	x, err := x11.Open(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		Windows(ctx, d.number, env["XAUTHORITY"], func() bool { return true }, slog.New(slog.DiscardHandler))
	})
	open := func(class, title string) (close func()) {
		c := exec.CommandContext(ctx, "xterm", "-class", class, "-T", title, "-geometry", "60x10", "-e", "sleep", "100000")
		c.Env = []string{"DISPLAY=" + env["DISPLAY"], "XAUTHORITY=" + env["XAUTHORITY"]}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return func() { _ = c.Process.Kill(); _ = c.Wait() }
	}
	place := func(title string) (at image.Rectangle) {
		if w, err := x.Find(title, 0); err == nil && w != 0 {
			at, _ = x.Place(w)
		}
		return at
	}
	fills := func(title string, width int) bool { return place(title).Dx() >= width-20 }

	// The watch may begin after the first window, which it then leaves alone.
	await(t, func() bool {
		stop := open("Chromium", "browser")
		deadline := time.Now().Add(5 * time.Second)
		for time.Now().Before(deadline) && !fills("browser", 640) {
			select {
			case <-t.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
		if !fills("browser", 640) {
			stop()
			return false
		}
		t.Cleanup(stop)
		return true
	})
	small := open("Calculator", "small")
	defer small()
	await(t, func() bool { return place("small").Dx() > 0 })
	after := open("Firefox", "second browser")
	defer after()
	await(t, func() bool { return fills("second browser", 640) })
	if fills("small", 640) {
		t.Errorf("a small program: got %v, want its own size", place("small"))
	}

	v := watches(t, d)
	v.asks(viewers.Works, 200, 200)
	await(t, func() bool { at := place("small"); return at.Dx() > 0 && at.Dx() <= 200 && fills("small", 200) })
}
