package fair_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/fair"
)

// TestQueueAtRandom lets callers of few networks come, leave and give way, and counts that no turn is lost.
func TestQueueAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			q := small()
			var mu sync.Mutex
			verdicts := map[fair.Verdict]int{}
			var all sync.WaitGroup
			for range 300 {
				v := fair.Visitor{Addr: netip.MustParseAddr(fmt.Sprintf("10.%d.%d.%d", r.IntN(4), r.IntN(2), r.IntN(2)))}
				if r.IntN(3) == 0 {
					v.Known = fmt.Sprint(r.IntN(4))
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(3000))*time.Millisecond)
				work := time.Duration(r.IntN(300)) * time.Millisecond
				all.Go(func() {
					defer cancel()
					verdict := q.Enter(ctx, v)
					mu.Lock()
					verdicts[verdict]++
					mu.Unlock()
					if verdict == fair.Taken {
						time.Sleep(work)
						q.Leave()
					}
				})
				time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			}
			all.Wait()
			if working, strangers, known := q.Used(); working+strangers+known != 0 {
				t.Fatalf("seed %d: got %d working, %d strangers, %d known left behind, want none; %v", seed, working, strangers, known, verdicts)
			}
			if verdicts[fair.Taken] == 0 || verdicts[fair.Full]+verdicts[fair.ShareFull] == 0 || verdicts[fair.Late] == 0 {
				t.Fatalf("seed %d: got verdicts %v, want some of each kind", seed, verdicts)
			}
		})
	}
}
