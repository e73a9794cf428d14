package stripetest_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
)

// inbox is a webhook that keeps what arrives.
type inbox struct {
	mu      sync.Mutex
	status  int
	fails   error
	ids     []string
	headers []string
}

func (b *inbox) post(_ context.Context, body []byte, signature string) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, rest, _ := strings.Cut(string(body), `"id": "evt_`)
	id, _, _ := strings.Cut(rest, `"`)
	b.ids, b.headers = append(b.ids, id), append(b.headers, signature)
	return b.status, b.fails
}

func (b *inbox) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := b.ids
	b.ids = nil
	return ids
}

// TestDeliver sends each event once to a webhook that takes it, in order.
func TestDeliver(t *testing.T) {
	t.Parallel()
	box := &inbox{status: http.StatusOK}
	s := newServer(stripetest.Config{Post: box.post})
	subscribe(t, s, "acc1", 0)
	if taken := s.Deliver(t.Context()); taken != 7 || s.Waiting() != 0 {
		t.Errorf("%d deliveries were taken, %d wait", taken, s.Waiting())
	}
	if ids := box.take(); !slices.IsSorted(ids) || len(ids) != 7 {
		t.Errorf("they arrived as %v", ids)
	}
	if s.Deliver(t.Context()) != 0 || len(box.take()) != 0 {
		t.Error("something was sent again")
	}
}

// TestDeliverAgain repeats what a webhook refuses, less and less often, for three days.
func TestDeliverAgain(t *testing.T) {
	t.Parallel()
	for name, box := range map[string]*inbox{"503": {status: http.StatusServiceUnavailable}, "a redirect": {status: http.StatusFound}, "no answer": {fails: errors.New("refused")}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(stripetest.Config{Post: box.post})
			id, _ := openCheckout(t, s, "acc1", 0)
			s.Advance(day) // one event: it expires
			var at []time.Duration
			for s.Waiting() > 0 && s.Now().Sub(start) < 10*day {
				s.Deliver(t.Context())
				if len(box.take()) > 0 {
					at = append(at, s.Now().Sub(start)-day)
				}
				s.Advance(time.Minute)
			}
			if len(at) < 8 || len(at) > 20 || at[0] != 0 || at[1] != time.Minute || at[2] != 6*time.Minute || at[4]-at[3] != 2*time.Hour || at[len(at)-1] > 3*day || at[len(at)-1] < 2*day {
				t.Errorf("%s was sent after %v", id, at)
			}
			if len(slices.Compact(slices.Sorted(slices.Values(box.headers)))) != len(box.headers) {
				t.Error("two attempts have the same signature")
			}
			if s.Ledger().Faults["delivery given up"] != 1 {
				t.Errorf("the ledger counts %v", s.Ledger().Faults)
			}
		})
	}
}

// TestDeliveryFaults loses, repeats, delays and holds deliveries.
func TestDeliveryFaults(t *testing.T) {
	t.Parallel()
	box := &inbox{status: http.StatusOK}
	s := newServer(stripetest.Config{Post: box.post})
	s.LoseNext(2)
	s.RepeatNext(3)
	subscribe(t, s, "acc1", 0)
	s.Deliver(t.Context())
	if got := len(box.take()); got != 5 || s.Waiting() != 3 {
		t.Errorf("at first %d arrive, and %d wait", got, s.Waiting())
	}
	s.Advance(time.Hour)
	s.Deliver(t.Context())
	if got := box.take(); len(got) != 3 {
		t.Errorf("the second ones are %v", got)
	}
	s.SetFaults(stripetest.Faults{Delay: 1000, Late: 12 * time.Hour})
	subscribe(t, s, "acc2", 0)
	var order []string
	for range 13 {
		s.Deliver(t.Context())
		order = append(order, box.take()...)
		s.Advance(time.Hour)
	}
	if len(order) != 7 || slices.IsSorted(order) {
		t.Errorf("late ones arrive as %v", order)
	}
	s.SetFaults(stripetest.Faults{Lose: 1000})
	subscribe(t, s, "acc3", 0)
	if s.Waiting() != 0 {
		t.Errorf("%d were not lost", s.Waiting())
	}
	s.SetFaults(stripetest.Faults{})
	s.Hold(true)
	subscribe(t, s, "acc4", 0)
	if s.Deliver(t.Context()) != 0 || s.Waiting() != 7 {
		t.Error("held ones are sent")
	}
	s.Hold(false)
	if got := s.Deliver(t.Context()); got != 7 {
		t.Errorf("afterwards %d are sent", got)
	}
	s.Down(time.Hour)
	if status, _ := call(t, s, "GET", "/v1/prices", "", nil); status != http.StatusBadGateway {
		t.Errorf("while it is down, a call is answered with %d", status)
	}
	if err := s.Resend(s.Events()[0].ID); err != nil || s.Deliver(t.Context()) != 0 {
		t.Errorf("while it is down, it delivers: %v", err)
	}
	s.Advance(time.Hour)
	if s.Deliver(t.Context()) != 1 {
		t.Error("afterwards it does not deliver")
	}
	if status, _ := call(t, s, "GET", "/v1/prices", "", nil); status != http.StatusOK {
		t.Errorf("afterwards a call is answered with %d", status)
	}
}

// TestFaultsOfCalls makes as many calls fail as are asked for, the same ones for the same seed.
func TestFaultsOfCalls(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (met map[string]int, statuses []int) {
		s := newServer(stripetest.Config{Seed: seed})
		s.SetFaults(stripetest.Faults{Calls: map[string]int{stripetest.Cut: 100, stripetest.Error: 100, stripetest.Busy: 100, stripetest.Locked: 50}})
		for range 400 {
			status, _ := call(t, s, "GET", "/v1/prices", "", nil)
			statuses = append(statuses, status)
		}
		return s.Ledger().Faults, statuses
	}
	met, statuses := run(1)
	for fault, want := range map[string]int{stripetest.Cut: 40, stripetest.Error: 40, stripetest.Busy: 40, stripetest.Locked: 20} {
		if met[fault] < want/3 || met[fault] > want*3 {
			t.Errorf("%s happened %d times, not about %d", fault, met[fault], want)
		}
	}
	if _, again := run(1); !slices.Equal(statuses, again) {
		t.Error("the same seed has other faults")
	}
	if _, other := run(2); slices.Equal(statuses, other) {
		t.Error("another seed has the same faults")
	}
}
