package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudbot-ai/control-plane/domain"
)

func readinessOf(t *testing.T, probes ...Probe) *Readiness {
	t.Helper()
	r, err := NewReadiness(probes, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var errRefusedThere = &domain.Error{Kind: domain.Unavailable, Code: "x", Msg: "The other side refuses it: allow it there."}

func fine(context.Context) error { return nil }

func TestReadySaysWhatDoesNotWork(t *testing.T) {
	t.Parallel()
	inner := errors.New("dial 10.0.0.9: refused")
	broken := func(context.Context) error { return inner }
	refused := func(context.Context) error { return fmt.Errorf("%w (%w)", errRefusedThere, inner) }
	grave := func(err error) bool { return errors.Is(err, errRefusedThere) }
	for name, c := range map[string]struct {
		probes            []Probe
		status            int
		checks            map[string]string
		reasons, degraded []string
	}{
		"nothing to try": {nil, 200, nil, nil, nil},
		"all well":       {[]Probe{{Name: "a", Try: fine}, {Name: "b", Try: fine, Degrades: "no b"}}, 200, map[string]string{"a": "ok", "b": "ok"}, nil, nil},
		"needed": {[]Probe{{Name: "a", Try: broken}, {Name: "b", Try: fine}}, 503,
			map[string]string{"a": "failed", "b": "ok"}, []string{"a: Not working; see the server's log."}, nil},
		"not needed": {[]Probe{{Name: "a", Try: fine}, {Name: "b", Try: broken, Degrades: "desktops cannot be opened", Grave: grave}}, 200,
			map[string]string{"a": "ok", "b": "degraded"}, nil, []string{"b: desktops cannot be opened"}},
		"for good": {[]Probe{{Name: "b", Try: refused, Degrades: "desktops cannot be opened", Grave: grave}}, 503,
			map[string]string{"b": "failed"}, []string{"b: " + errRefusedThere.Msg}, nil},
		"bug": {[]Probe{{Name: "a", Try: func(context.Context) error { panic("canary") }}}, 503, map[string]string{"a": "failed"}, []string{"a: Not working; see the server's log."}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := readinessOf(t, c.probes...)
			for _, p := range r.probes {
				p.try(t.Context(), r.log)
			}
			f := newFront(t, func(cfg *Config) { cfg.Environment, cfg.Readiness = "staging", r })
			a := f.want(c.status, call{method: "GET", path: "/ready"})
			var v healthView
			a.into(t, &v)
			for part, said := range c.checks {
				if v.Checks[part] != said {
					t.Errorf("%s: %q, want %q", part, v.Checks[part], said)
				}
			}
			if !slices.Equal(v.Reasons, c.reasons) || !slices.Equal(v.Degraded, c.degraded) || v.Environment != "staging" || v.Timestamp.IsZero() ||
				(v.Status == "ready") != (c.status == 200) || strings.Contains(string(a.body), "10.0.0.9") || strings.Contains(string(a.body), "canary") {
				t.Errorf("got %s, want status %d, reasons %q and degraded %q, without internals", a.body, c.status, c.reasons, c.degraded)
			}
			f.want(200, call{method: "GET", path: "/health"})
		})
	}
}

// Requests are answered from memory: a thousand of them run no probe. A probe runs at most once a second, and one
// that hangs delays neither the others nor the answer.
func TestReadyOnlyReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var well, bad atomic.Int64
		r := readinessOf(t,
			Probe{Name: "well", Try: func(context.Context) error { well.Add(1); return nil }},
			Probe{Name: "bad", Try: func(context.Context) error { bad.Add(1); return errors.New("x") }, Degrades: "y"},
			Probe{Name: "stuck", Try: func(ctx context.Context) error { <-ctx.Done(); <-t.Context().Done(); return nil }, Degrades: "z"},
		)
		if r.Report().Ready {
			t.Errorf("before the first try: got ready, want not ready")
		}
		ctx, stop := context.WithCancel(t.Context())
		go r.Run(ctx)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := well.Load(); n < 5 || n > 31 {
			t.Errorf("tries of a working probe in 30 s: got %d, want 5 to 31", n)
		}
		before := bad.Load()
		for range 1000 {
			if report := r.Report(); !report.Ready || report.Checks["well"] != "ok" || report.Checks["bad"] != "degraded" || report.Checks["stuck"] != "no answer" {
				t.Fatalf("got %+v, want ready with well ok, bad degraded and stuck without an answer", report)
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := bad.Load() - before; n < 9 || n > 11 {
			t.Errorf("tries of a failing probe in 10 s: got %d, want 9 to 11", n)
		}
		stop()
	})
}

// A probe that never worked is logged, too: once, after the time to start, and again when it works.
func TestWhatNeverWorkedIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		var well atomic.Bool
		r, err := NewReadiness([]Probe{{Name: "never", Try: func(context.Context) error {
			if well.Load() {
				return nil
			}
			return errors.New("it is away")
		}}}, slog.New(slog.NewTextHandler(&out, nil)), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		go r.Run(ctx)
		logged := func(after time.Duration, bad, good int) {
			t.Helper()
			time.Sleep(after) // of the bubble's clock
			synctest.Wait()
			if b, g := strings.Count(out.String(), "it is away"), strings.Count(out.String(), "part recovered"); b != bad || g != good {
				t.Errorf("failures and recoveries logged: got %d and %d, want %d and %d:\n%s", b, g, bad, good, out.String())
			}
		}
		logged(5*time.Second, 0, 0)
		logged(25*time.Second, 1, 0)
		well.Store(true)
		logged(5*time.Second, 1, 1)
		well.Store(false)
		logged(5*time.Second, 2, 1)
		stop()
	})
}

func TestReadyWhileDraining(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	f.want(200, call{method: "GET", path: "/ready"})
	f.server.drain()
	if a := f.want(503, call{method: "GET", path: "/ready"}); !strings.Contains(string(a.body), "draining") {
		t.Errorf("got %s, want draining", a.body)
	}
	f.want(200, call{method: "GET", path: "/health"})
	a := f.want(503, call{method: "GET", path: "/api/instances/01JD0000000000000000000000/vnc", header: map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x",
	}})
	if a.field(t, "code") != "restarting" || a.header.Get("Retry-After") == "" {
		t.Errorf("got %s %v, want restarting with Retry-After", a.body, a.header)
	}
}
