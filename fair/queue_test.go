package fair_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/fair"
)

// small is a queue with one turn at a time.
func small() *fair.Queue {
	return fair.NewQueue(fair.QueueConfig{
		Run: 1, Wait: 8, One: 2, Site: 3, Network: 4, WaitKnown: 4, EachKnown: 2, Patience: 10 * time.Second,
	})
}

func stranger(addr string) fair.Visitor { return fair.Visitor{Addr: netip.MustParseAddr(addr)} }

// play lets callers come one after another while the only turn is taken, then ends the turns. It returns the order
// of the turns and the verdicts of the other callers.
func play(q *fair.Queue, callers ...fair.Visitor) (order []string, verdicts map[fair.Verdict]int) {
	verdicts = map[fair.Verdict]int{}
	var mu sync.Mutex
	q.Enter(context.Background(), fair.Visitor{})
	for _, v := range callers {
		go func() {
			verdict := q.Enter(context.Background(), v)
			mu.Lock()
			defer mu.Unlock()
			verdicts[verdict]++
			if verdict == fair.Taken {
				name := v.Known
				if name == "" {
					name = v.Addr.String()
				}
				order = append(order, name)
			}
		}()
		synctest.Wait()
	}
	for working := 1; working > 0; working, _, _ = q.Used() {
		q.Leave()
		synctest.Wait()
	}
	mu.Lock()
	defer mu.Unlock()
	return order, verdicts
}

func TestQueueTurns(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		callers string // in the order they come
		order   string // of their turns
		full    map[fair.Verdict]int
	}{
		"alone": {"192.0.2.1", "192.0.2.1", nil},
		"two addresses": {
			"192.0.2.1 192.0.2.1 192.0.2.2", "192.0.2.1 192.0.2.2 192.0.2.1", nil},
		"an address has a small share": {
			"192.0.2.1 192.0.2.1 192.0.2.1 192.0.2.2", "192.0.2.1 192.0.2.2 192.0.2.1", map[fair.Verdict]int{fair.ShareFull: 1}},
		"many /64s of one /48 count as one network": {
			"2001:db8:0:100::1 2001:db8:0:200::1 2001:db8:0:300::1 2001:db8:1::1", "2001:db8:0:100::1 2001:db8:1::1 2001:db8:0:200::1 2001:db8:0:300::1", nil},
		"and have a small share": {
			"2001:db8:0:100::1 2001:db8:0:200::1 2001:db8:0:300::1 2001:db8:0:400::1 2001:db8:0:500::1", "2001:db8:0:100::1 2001:db8:0:200::1 2001:db8:0:300::1 2001:db8:0:400::1", map[fair.Verdict]int{fair.ShareFull: 1}},
		"a /56 has a share of it": {
			"2001:db8:0:101::1 2001:db8:0:102::1 2001:db8:0:103::1 2001:db8:0:104::1 2001:db8:0:200::1", "2001:db8:0:101::1 2001:db8:0:200::1 2001:db8:0:102::1 2001:db8:0:103::1", map[fair.Verdict]int{fair.ShareFull: 1}},
		"a region has half": {
			"2001:db8:1::1 2001:db8:2::1 2001:db8:3::1 2001:db8:4::1 2001:db8:5::1 192.0.2.1", "2001:db8:1::1 192.0.2.1 2001:db8:2::1 2001:db8:3::1 2001:db8:4::1", map[fair.Verdict]int{fair.ShareFull: 1}},
		"more regions than places": {
			"10.1.0.1 10.2.0.1 10.3.0.1 10.4.0.1 10.5.0.1 10.6.0.1 10.7.0.1 10.8.0.1 10.9.0.1", "10.1.0.1 10.2.0.1 10.3.0.1 10.4.0.1 10.5.0.1 10.6.0.1 10.7.0.1 10.8.0.1", map[fair.Verdict]int{fair.Full: 1}},
		"two full regions make room for a third": {
			"10.1.0.1 10.1.0.1 10.1.1.1 10.1.1.1 10.2.0.1 10.2.0.1 10.2.1.1 10.2.1.1 10.3.0.1", "10.1.0.1 10.2.0.1 10.3.0.1 10.1.1.1 10.2.1.1 10.1.0.1 10.2.0.1 10.1.1.1", map[fair.Verdict]int{fair.Full: 1}},
		"a full network makes room for its smaller part": {
			"2001:db8:0:101::1 2001:db8:0:101::1 2001:db8:0:102::1 2001:db8:0:200::1 2001:db8:0:201::1 2001:db8:0:300::1", "2001:db8:0:101::1 2001:db8:0:200::1 2001:db8:0:300::1 2001:db8:0:102::1", map[fair.Verdict]int{fair.ShareFull: 2}},
		"and a region for its smaller networks": {
			"10.1.0.1 10.1.0.1 10.1.1.1 10.1.1.1 10.2.0.1 10.2.0.1 10.2.1.1 10.2.1.1 10.1.2.1", "10.1.0.1 10.2.0.1 10.1.1.1 10.2.1.1 10.1.2.1 10.2.0.1 10.1.0.1 10.2.1.1", map[fair.Verdict]int{fair.ShareFull: 1}},
		"a full lane of known callers makes room, too": {
			"eve@10.1.0.1 eve@10.1.0.1 eva@10.2.0.1 eva@10.2.0.1 ada@10.3.0.1", "eve eva ada eve", map[fair.Verdict]int{fair.Full: 1}},
		"the known come first, and not only they": {
			"10.1.0.1 10.2.0.1 ada@10.3.0.1 ada@10.3.0.1 bob@10.4.0.1 cat@10.5.0.1", "ada bob cat 10.1.0.1 ada 10.2.0.1", nil},
		"the known have shares too": {
			"ada@10.1.0.1 ada@10.2.0.1 ada@10.3.0.1 bob@10.4.0.1 bob@10.5.0.1 cat@10.6.0.1", "ada ada bob bob", map[fair.Verdict]int{fair.ShareFull: 1, fair.Full: 1}},
		"one with many accounts too": {
			"eve@10.1.0.1 eva@10.1.0.1 evi@10.1.0.1 ada@10.2.0.1", "eve ada eva", map[fair.Verdict]int{fair.ShareFull: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := small()
				var callers []fair.Visitor
				for _, text := range strings.Fields(c.callers) {
					name, addr, known := strings.Cut(text, "@")
					if !known {
						name, addr = "", name
					}
					callers = append(callers, fair.Visitor{Known: name, Addr: netip.MustParseAddr(addr)})
				}
				order, verdicts := play(q, callers...)
				delete(verdicts, fair.Taken)
				if got := strings.Join(order, " "); got != c.order {
					t.Errorf("turns: %s\n want: %s", got, c.order)
				}
				if fmt.Sprint(verdicts) != fmt.Sprint(c.full) {
					t.Errorf("verdicts %v, want %v", verdicts, c.full)
				}
				if working, strangers, known := q.Used(); working+strangers+known != 0 {
					t.Errorf("got %d working, %d strangers, %d known left behind, want none", working, strangers, known)
				}
			})
		})
	}
}

func TestQueueWaitsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := small()
		q.Enter(t.Context(), fair.Visitor{})
		began := time.Now()
		if v := q.Enter(t.Context(), stranger("192.0.2.1")); v != fair.Late || time.Since(began) != 10*time.Second {
			t.Errorf("patience: got %v after %v, want %v after 10s", v, time.Since(began), fair.Late)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if v := q.Enter(ctx, fair.Visitor{Known: "ada"}); v != fair.Late || time.Since(began) != time.Second {
			t.Errorf("a caller that leaves: got %v after %v, want %v after 1s", v, time.Since(began), fair.Late)
		}
		if v := q.Enter(ctx, stranger("192.0.2.1")); v != fair.Late {
			t.Errorf("a caller that has left: got %v, want %v", v, fair.Late)
		}
		q.Leave()
		if working, strangers, known := q.Used(); working+strangers+known != 0 {
			t.Errorf("got %d working, %d strangers, %d known left behind, want none", working, strangers, known)
		}
		if v := q.Enter(t.Context(), stranger("192.0.2.1")); v != fair.Taken {
			t.Errorf("a free turn: got %v, want %v", v, fair.Taken)
		}
	})
}

func TestVisitorTravels(t *testing.T) {
	t.Parallel()
	v := fair.Visitor{Addr: netip.MustParseAddr("192.0.2.1"), Known: "ada"}
	if got := fair.VisitorOf(fair.With(t.Context(), v)); got != v {
		t.Errorf("got %+v, want %+v", got, v)
	}
	if got := fair.VisitorOf(t.Context()); got != (fair.Visitor{}) {
		t.Errorf("got %+v, want a stranger without an address", got)
	}
}
