package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/eventstoretest"
)

// Many callers at two replicas, whose connections break, whose server ends sessions, whose probes come between and whose callers
// give up: each acknowledged append is in the log, at the positions its caller got, and a refused one is not.
func TestStorm(t *testing.T) {
	t.Parallel()
	url, i := pgtest.New(t), &ids{}
	admin := pool(t, url)
	cutters := []*cutter{{}, {}}
	var faults, callers sync.WaitGroup
	calm := make(chan struct{})
	type kept struct {
		eventstore.Result
		id    string
		count int
	}
	var mu sync.Mutex
	acknowledged, refused, unknown := map[string]kept{}, map[string]bool{}, 0
	for r, c := range cutters {
		s := c.open(t, url)
		s.Crowd()
		faults.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-calm:
					return
				case <-time.After(time.Duration(rand.IntN(60)) * time.Millisecond):
				}
				s.ForgetRivals() // else the replicas would not overlap their batches
				switch n % 4 {
				case 0:
					c.beforeReply.Store(true)
				case 1:
					c.beforeSend.Store(true)
				case 2:
					_, _ = admin.Exec(context.Background(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
						WHERE datname = current_database() AND application_name = 'cloudbot append'`)
				case 3:
					s.FailedLately()
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(20))*time.Millisecond)
					_ = s.Probe(ctx)
					cancel()
				}
			}
		})
		for n := range 24 {
			callers.Go(func() {
				version := int64(0)
				for k := range 40 {
					stream, expected := fmt.Sprintf("own-%d-%d", r, n), version
					if k%3 == 0 { // a race with the others for one stream
						stream, expected = fmt.Sprintf("shared-%d", k), 0
					}
					a := i.append(stream, expected, 1+rand.IntN(3))
					if k%5 == 0 {
						a = receipt(a, fmt.Sprintf("key-%d-%d", n, k)) // a race with the other replica
					}
					ctx, cancel := context.Background(), context.CancelFunc(func() {})
					if k%7 == 0 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(4))*time.Millisecond)
					}
					got, err := s.Append(ctx, a)
					cancel()
					events := a.Writes[0].Events
					conflict, used := (*eventstore.ConflictError)(nil), (*eventstore.DuplicateError)(nil)
					mu.Lock()
					switch {
					case err == nil:
						acknowledged[events[0].ID] = kept{got, events[len(events)-1].ID, len(events)}
					case errors.As(err, &conflict), errors.As(err, &used):
						refused[events[0].ID] = true
					default:
						unknown++
					}
					mu.Unlock()
					if k%3 != 0 {
						if err == nil {
							version += int64(len(events))
						} else if v, err := s.Version(context.Background(), eventstore.StreamID{Aggregate: "thing", ID: stream}); err == nil {
							version = v
						}
					}
				}
			})
		}
	}
	callers.Wait()
	close(calm)
	faults.Wait()
	at := map[string]int64{}
	for _, e := range eventstoretest.Sound(t, open(t, url)) {
		if at[e.ID] != 0 {
			t.Errorf("event %s is there twice, at %d and %d", e.ID, at[e.ID], e.Position)
		}
		at[e.ID] = e.Position
		if refused[e.ID] {
			t.Errorf("event %s at %d was refused", e.ID, e.Position)
		}
	}
	for id, k := range acknowledged {
		if at[id] != k.First || at[k.id] != k.Last || k.Last-k.First+1 != int64(k.count) {
			t.Errorf("got %+v acknowledged, and the log has it at %d to %d", k, at[id], at[k.id])
		}
	}
	if len(acknowledged) < 200 || len(refused) < 20 {
		t.Errorf("got %d acknowledged and %d refused appends, want many", len(acknowledged), len(refused))
	}
	if cutters[0].cuts.Load() == 0 || cutters[1].cuts.Load() == 0 {
		t.Error("no connection was cut")
	}
	t.Logf("%d acknowledged, %d refused, %d unknown; %d and %d cuts", len(acknowledged), len(refused), unknown, cutters[0].cuts.Load(), cutters[1].cuts.Load())
}
