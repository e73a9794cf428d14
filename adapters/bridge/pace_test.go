package bridge_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// watch opens a viewer for each account, of a desktop that draws continuously. It returns how many bytes each got
// by the time that wait returns.
func watch(t *testing.T, c bridge.Config, accounts []string, wait func(total *atomic.Int64)) []int64 {
	p := &pipes{serve: hostile.Desktop{After: func(c net.Conn) { _, _ = io.Copy(c, hostile.Endless{}) }}.Serve}
	c.Opener = p
	b := bridge.New(c)
	running, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = b.Run(running) })
	l := pipe.NewListener()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.ServeVNC(w, r, access.BridgeSession{Account: r.URL.Query().Get("account"), Instance: "instance", Mode: "control"})
	})}
	all.Go(func() { _ = server.Serve(l) })
	got := make([]atomic.Int64, len(accounts))
	var total atomic.Int64
	var viewers []*websocket.Conn
	for i, account := range accounts {
		v, _, err := websocket.Dial(t.Context(), "ws://bridge/?account="+account, &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				all.Go(func() { _ = l.Hand(running, addressed{far}) })
				return near, nil
			},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		viewers = append(viewers, v)
		shake(t, v)
		all.Go(func() {
			for {
				_, p, err := v.Read(context.Background())
				if err != nil {
					return
				}
				got[i].Add(int64(len(p)))
				total.Add(int64(len(p)))
			}
		})
	}
	wait(&total)
	counted := make([]int64, len(got))
	for i := range got {
		counted[i] = got[i].Load()
	}
	for _, v := range viewers {
		v.CloseNow()
	}
	stop()
	_ = server.Close()
	_ = l.Close()
	all.Wait()
	p.all.Wait()
	return counted
}

// addressed gives the end of a pipe a network address.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// A desktop draws continuously for ten seconds of the test's clock.
func TestVNCBandwidth(t *testing.T) {
	t.Parallel()
	const seconds, one, account = 10, 100_000, 150_000
	synctest.Test(t, func(t *testing.T) {
		c := bridge.Config{MaxVNCRate: one, MaxVNCRatePerAccount: account}
		got := watch(t, c, []string{"a", "a", "b"}, func(*atomic.Int64) { <-time.After(seconds * time.Second) })
		within := func(what string, bytes, rate int64) {
			if most, least := (seconds+1)*rate, (seconds-1)*rate; bytes > most || bytes < least {
				t.Errorf("%s: got %d bytes in %d s, want %d to %d", what, bytes, seconds, least, most)
			}
		}
		within("both viewers of an account", got[0]+got[1], account)
		within("the viewer of another", got[2], one)
		if got[0] > (seconds+1)*one || got[1] > (seconds+1)*one {
			t.Errorf("viewers: got %v bytes, want at most %d each", got, (seconds+1)*one)
		}
	})
}

// Without a limit nothing waits: many bytes arrive while the test's clock stands still.
func TestVNCBandwidthIsOffByDefault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		watch(t, bridge.Config{}, []string{"a"}, func(total *atomic.Int64) {
			synctestUntil(func() bool { return total.Load() > 4<<20 })
		})
		if d := time.Since(began); d > 0 {
			t.Errorf("time for 4 MiB without a limit: got %v, want 0", d)
		}
	})
}

// synctestUntil runs the other goroutines of the bubble until is returns true, without advancing the clock.
func synctestUntil(is func() bool) {
	for !is() {
		runtime.Gosched()
	}
}
