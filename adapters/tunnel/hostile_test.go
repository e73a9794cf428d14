package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// behind believes X-Forwarded-For, so that a test can come from anywhere.
func behind(r *http.Request) netip.Addr {
	a, err := netip.ParseAddr(r.Header.Get("X-Forwarded-For"))
	if err != nil {
		return remote(r)
	}
	return a
}

func (m *machines) hostile(url, from string) hostile.Machine {
	return hostile.Machine{URL: url, Instance: id, Boot: "b", Process: "p", Key: m.private, From: from}
}

// Silent connections from one address take only that address's share: the next one is refused immediately, and
// a guest from another address can connect.
func TestSilentGreetingsTakeTheirShare(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	r.hub.c.ClientAddr = behind
	r.hub.proof = wire.GreetingTimeout // long enough to open all of them on a busy machine
	var all sync.WaitGroup
	for i := range greetingsOne {
		all.Go(func() {
			ws, _, err := m.hostile(r.url, "192.0.2.1").Dial(t.Context())
			if err != nil {
				t.Errorf("greeting %d: %v", i, err)
				return
			}
			t.Cleanup(func() { ws.CloseNow() })
		})
	}
	all.Wait()
	_, _, err := m.hostile(r.url, "192.0.2.1").Dial(t.Context())
	refusedWith(t, err, http.StatusTooManyRequests, "too_many_from_here")
	good, err := m.hostile(r.url, "198.51.100.1").Connect(t.Context())
	if err != nil {
		t.Fatal("a guest from elsewhere:", err)
	}
	good.Close()
	if places, _ := r.hub.greetings.Used(); places > greetingsOne+1 { // the honest guest's place is given back soon
		t.Errorf("places taken: got %d, want at most %d", places, greetingsOne+1)
	}
	// Connections that stay silent lose their places.
	eventually(t, "places given back", func() bool { places, _ := r.hub.greetings.Used(); return places == 0 })
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); !is(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("not seen:", what)
		}
	}
}

// If many networks take all places, the answer says that the server is full, not the client's share.
func TestAllGreetingsTaken(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	r.hub.greetings = fair.NewPlaces(0)
	_, _, err := m.hostile(r.url, "").Dial(t.Context())
	refusedWith(t, err, http.StatusServiceUnavailable, "too_many_greetings")
}

// Greetings look up machines in the log, so their number in a minute from one address is bounded.
func TestGreetingsInAMinute(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	r.hub.c.ClientAddr = behind
	flooder := fair.ByAddress("address", netip.MustParseAddr("192.0.2.1"), greetTriesOne, greetTriesSite, greetTriesWide)
	for range greetTriesOne {
		if v := r.hub.greetTries.take(flooder...); v != fair.Taken {
			t.Fatalf("try: got %v, want %v", v, fair.Taken)
		}
	}
	_, _, err := m.hostile(r.url, "192.0.2.1").Dial(t.Context())
	refusedWith(t, err, http.StatusTooManyRequests, "too_many_from_here")
	connect(t, m.hostile(r.url, "192.0.2.2"))
}

func refusedWith(t *testing.T, err error, status int, code string) {
	t.Helper()
	var no *hostile.Refused
	if !errors.As(err, &no) || no.Status != status || no.Code != code || no.After == "" {
		t.Errorf("%v, want %d %s with Retry-After", err, status, code)
	}
}

// counting counts the enrolments that reach the store.
type counting struct {
	*machines
	mu       sync.Mutex
	enrolled int
}

func (c *counting) Enroll(ctx context.Context, token string, key []byte) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enrolled++
	return c.machines.Enroll(ctx, token, key)
}

// A flood of enrolments reaches the store a bounded number of times, for one machine from one network and for
// one address. The machine itself, at another address, still enrols.
func TestEnrolmentFlood(t *testing.T) {
	t.Parallel()
	m := &counting{machines: newMachines(t)}
	r := newReplica(t, m, nil)
	r.hub.c.ClientAddr = behind
	flood := func(from string, token func(int) string, n int) (refused int) {
		for i := range n {
			switch status, code, err := m.hostile(r.url, from).Enroll(t.Context(), token(i)); {
			case err != nil:
				t.Fatal(err)
			case status == http.StatusTooManyRequests && code == "too_many_from_here":
				refused++
			case status != http.StatusForbidden:
				t.Fatalf("got %d %s, want 403", status, code)
			}
		}
		return refused
	}
	one := func(int) string { return id + ".1.guess" }
	if n := flood("192.0.2.1", one, 2*enrolTriesOwn); n != enrolTriesOwn || m.enrolled != enrolTriesOwn {
		t.Errorf("got %d refused and %d in the store, want %d of each", n, m.enrolled, enrolTriesOwn)
	}
	many := func(i int) string { return "x" + strings.Repeat("y", i%50) + ".1.guess" }
	if n := flood("192.0.2.1", many, enrolTriesOne); n == 0 || m.enrolled > enrolTriesOne {
		t.Errorf("got %d refused and %d in the store, want at least one and at most %d", n, m.enrolled, enrolTriesOne)
	}
	if status, code, err := m.hostile(r.url, "198.51.100.1").Enroll(t.Context(), "good"); err != nil || status != http.StatusOK {
		t.Errorf("the machine itself: got %d %s %v, want 200", status, code, err)
	}
}

// An enrolment counts once against the total of a minute.
func TestEnrolmentsOfAll(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	r.hub.c.ClientAddr = behind
	for i := range enrolTries {
		from := fmt.Sprintf("10.%d.%d.1", i/250, i%250)
		status, code, err := m.hostile(r.url, from).Enroll(t.Context(), fmt.Sprintf("machine%d.1.guess", i))
		if err != nil || status != http.StatusForbidden {
			t.Fatalf("enrolment %d of %d: got %d %s %v, want 403", i+1, enrolTries, status, code, err)
		}
	}
	if status, code, err := m.hostile(r.url, "192.0.2.1").Enroll(t.Context(), "one.1.more"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("one more enrolment: got %d %s %v, want 503", status, code, err)
	}
}

// A body that does not arrive keeps its place for only a few seconds.
func TestEnrolmentWithoutABody(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	body, end := io.Pipe()
	defer end.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+wire.EnrollPath, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("got %d, want 422", res.StatusCode)
	}
}

// A machine that reconnects too often in a minute is refused; another machine is not.
func TestReconnectFlood(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	for i := range connectsMachine {
		tunnel, err := m.hostile(r.url, "").Connect(t.Context())
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer tunnel.Close()
	}
	_, err := m.hostile(r.url, "").Connect(t.Context())
	var no *hostile.Refused
	if !errors.As(err, &no) || no.Close != wire.CloseTooOften || no.Reason == "" {
		t.Errorf("one connection too many: got %v, want close code %d with a reason", err, wire.CloseTooOften)
	}
	eventually(t, "the one before it still there", func() bool { return r.hub.Connected(id) })
	if v := r.hub.connects.take(fair.Claim{Key: "machine other", Max: connectsMachine}); v != fair.Taken {
		t.Errorf("another machine: got %v, want %v", v, fair.Taken)
	}
}

// A flood of refusals logs one line and a count.
func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := &refusals{log: slog.New(slog.NewTextHandler(&out, nil)), count: map[string]int{}}
	for range 1000 {
		r.note(t.Context(), "no place", nil)
	}
	r.summarize()
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "no place:999") {
		t.Errorf("log: got %s, want two lines, one with no place:999", got)
	}
	r.note(t.Context(), "no place", nil) // the flood continues
	r.summarize()
	r.summarize() // and is over
	r.note(t.Context(), "no place", nil)
	if got := out.String(); strings.Count(got, "\n") != 4 {
		t.Errorf("log: got %s, want four lines", got)
	}
}

// A connection whose greeting is too long cannot stay by never sending the rest of it.
func TestLongGreetingIsNotHeld(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	machine := m.hostile(newReplica(t, m, nil).url, "")
	var raw net.Conn
	machine.Network = func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		raw, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return raw, err
	}
	ws, _, err := machine.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	_, _ = raw.Write(append([]byte{0x81, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0}, make([]byte, wire.MaxGreeting+1)...)) // of 2 MiB
	_ = raw.SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.Copy(io.Discard, raw); err != nil {
		t.Errorf("got %v, want the connection's end", err)
	}
}
