package jetstream_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/natstest"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
)

func TestLimitIsGivenBack(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	replicas := []*jetstream.Limiter{
		jetstream.NewLimiter(jetstream.LimiterConfig{Conn: s.Conn}),
		jetstream.NewLimiter(jetstream.LimiterConfig{Conn: s.Connect(t)}),
	}
	// A thousand uses that are given back leave the limit unchanged.
	for i := range 1000 {
		if retry, err := replicas[i%2].Allow(t.Context(), "k", 3, time.Hour); retry != 0 || err != nil {
			t.Fatalf("use %d: got %s, %v, want 0 and no error", i, retry, err)
		}
		replicas[(i+1)%2].GiveBack(t.Context(), "k", 3, time.Hour)
	}
	allowed := func() (n int) {
		for i := range 10 {
			if retry, _ := replicas[i%2].Allow(t.Context(), "k", 3, time.Hour); retry == 0 {
				n++
			}
		}
		return n
	}
	if n := allowed(); n != 3 {
		t.Errorf("%d of 3 allowed, want 3", n)
	}
	replicas[0].GiveBack(t.Context(), "k", 3, time.Hour)
	if n := allowed(); n != 1 {
		t.Errorf("%d of the one given back, want 1", n)
	}
	replicas[0].GiveBack(t.Context(), "unknown", 3, time.Hour)
	s.Stop()
	for i := range 10 {
		if retry, err := replicas[0].Allow(t.Context(), "k2", 3, time.Hour); retry != 0 || err != nil {
			t.Fatalf("use %d without NATS: got %s, %v, want 0 and no error", i, retry, err)
		}
		replicas[0].GiveBack(t.Context(), "k2", 3, time.Hour)
	}
}

// TestHostileFullLimits fills the bucket as an attacker who invents keys would.
func TestHostileFullLimits(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	var log bytes.Buffer
	var passed atomic.Int64
	began := time.Now()
	l := jetstream.NewLimiter(jetstream.LimiterConfig{
		Conn: s.Conn, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Now: func() time.Time { return began.Add(time.Duration(passed.Load())) },
	})
	use := func(key string) bool {
		t.Helper()
		retry, err := l.Allow(t.Context(), key, 3, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return retry == 0
	}
	for range 3 {
		use("before")
	}
	if err := l.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	js, err := natsjs.New(s.Conn, natsjs.WithPublishAsyncMaxPending(500))
	if err != nil {
		t.Fatal(err)
	}
	full := false
	filler := make([]byte, 4000)
	for i := 0; !full; i++ {
		ack, err := js.PublishAsync(fmt.Sprintf("$KV.limits.filler%d", i), filler)
		if err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			select {
			case <-ack.Ok():
			case err := <-ack.Err():
				full = strings.Contains(err.Error(), "maximum bytes")
				filler = filler[:len(filler)/10]
				full = full && len(filler) < 40
			}
		}
	}
	<-js.PublishAsyncComplete()
	if use("before") {
		t.Error("a limit that was reached holds no longer")
	}
	allowed := 0
	for range 30 {
		if use("after") {
			allowed++
		}
	}
	if allowed != 3 {
		t.Errorf("%d of 3 allowed of a new key, want 3", allowed)
	}
	for i := range 30 {
		use(fmt.Sprint("more", i))
		if err := l.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "full") {
			t.Fatalf("the probe says %v, want an error and \"full\" in err.Error()", err)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "bucket of rate limits full") {
		t.Errorf("%d warnings, want n 1 and \"bucket of rate limits full\" in log.String()\n%s", n, log.String())
	}
	kv, err := js.KeyValue(t.Context(), "limits")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 { // room again
		if err := kv.Purge(t.Context(), fmt.Sprint("filler", i)); err != nil {
			t.Fatal(err)
		}
	}
	passed.Store(int64(2 * time.Minute))
	if !use("later") {
		t.Error("a new key in a bucket with room")
	}
	if err := l.Probe(t.Context()); err != nil {
		t.Errorf("the probe says %v", err)
	}
}

// held is a NATS whose answers can be held back, as those of a server that hangs.
type held struct {
	nats.InProcessConnProvider
	gate sync.RWMutex // locked: nothing comes
}

// connectHeld opens a connection that the gate holds. It is closed when the test ends.
func connectHeld(t *testing.T, s nats.InProcessConnProvider) (*nats.Conn, *held) {
	t.Helper()
	h := &held{InProcessConnProvider: s}
	nc, err := nats.Connect("", nats.InProcessServer(h))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, h
}

func (h *held) InProcessConn() (net.Conn, error) {
	c, err := h.InProcessConnProvider.InProcessConn()
	return heldConn{c, h}, err
}

type heldConn struct {
	net.Conn
	h *held
}

func (c heldConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.h.gate.RLock()
	defer c.h.gate.RUnlock()
	return n, err
}

// A NATS that hangs is asked once and then left alone for a while, because a sign-in has several keys. Meanwhile each
// replica counts on its own.
func TestLimitWhereNATSHangs(t *testing.T) {
	t.Parallel()
	nc, h := connectHeld(t, natstest.New(t))
	var passed atomic.Int64
	began := time.Now()
	l := jetstream.NewLimiter(jetstream.LimiterConfig{Conn: nc, Now: func() time.Time { return began.Add(time.Duration(passed.Load())) }})
	asked := func(key string) uint64 {
		t.Helper()
		before := nc.Stats().OutMsgs
		for i := range 5 {
			retry, err := l.Allow(t.Context(), key, 3, time.Hour)
			if err != nil || (retry == 0) != (i < 3) {
				t.Errorf("use %d of %s: got %s, %v, want no error and to be (i < 3)", i, key, retry, err)
			}
		}
		return nc.Stats().OutMsgs - before
	}
	if asked("before") == 0 {
		t.Error("NATS was not asked")
	}
	h.gate.Lock()
	first := asked("a")
	if n := asked("b"); first == 0 || first > 3 || n != 0 {
		t.Errorf("while it hung it was asked %d times, and then %d times, want first other than 0, first at most 3 and n 0", first, n)
	}
	h.gate.Unlock()
	passed.Store(int64(time.Minute))
	if asked("after") == 0 {
		t.Error("NATS was not asked again")
	}
}
