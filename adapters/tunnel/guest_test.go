package tunnel

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest"
	"github.com/cloudbot-ai/control-plane/guest/paths"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// anyKey accepts the first key that enrols.
type anyKey struct{ *machines }

func (a anyKey) Enroll(_ context.Context, token string, key []byte) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.key = ed25519.PublicKey(key)
	return id, nil
}

// TestGuestComesBackAfterARestart shows that a real guest survives the control plane's restart: it reconnects
// and reports its phase again, once.
func TestGuestComesBackAfterARestart(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	var handler atomic.Pointer[http.Handler]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
	defer server.Close()
	start := func() (*Hub, func()) {
		h, err := New(Config{Machines: anyKey{m}})
		if err != nil {
			t.Fatal(err)
		}
		g := h.GuestHandler()
		handler.Store(&g)
		ctx, cancel := context.WithCancel(context.Background())
		var run sync.WaitGroup
		run.Go(func() { _ = h.Run(ctx) })
		return h, func() { cancel(); run.Wait() }
	}
	hub, stop := start()

	b, err := json.Marshal(map[string]any{
		"control_plane_url": server.URL, "instance": id, "token": "t", "boot": "b",
		"desktop": map[string]any{"kind": "built-in"}, "agent": map[string]any{"kind": "stand-in"},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := guest.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(paths.Home(c.StateDir)) // outside the test's folder where the desktop's user cannot reach that
	g, err := guest.New(c, "test", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer run.Wait()
	defer cancel()
	phases := func(n int) {
		for range n {
			select {
			case <-m.phases:
			case <-time.After(60 * time.Second):
				t.Fatal("phases do not arrive")
			}
		}
	}
	phases(5)
	if who := hub.local(id).owner; !wire.Word(who.process) {
		t.Errorf("process of a real guest: got %q, want a word", who)
	}
	tunnel := hub.local(id)
	tunnel.mu.Lock()
	desktop := tunnel.hello.Desktop
	tunnel.mu.Unlock()
	if want := "built-in screen"; desktop != want {
		t.Errorf("desktop: got %q, want %q", desktop, want)
	}
	stop()
	_, stop = start()
	phases(1)
	stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	if got, want := strings.Join(m.reached[4:], ","), "b ready,b ready"; got != want {
		t.Errorf("last phases: got %s, want %s", got, want)
	}
}
