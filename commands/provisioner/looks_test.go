package provisioner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// shelf is a LookStore in memory.
type shelf struct{ text []byte }

func (s *shelf) Load(context.Context) ([]byte, error) { return s.text, nil }

func (s *shelf) Save(_ context.Context, text []byte) error {
	s.text = text
	return nil
}

// A reconciler that compares before the saga of its process begins knows what the process before has seen, and keeps it.
func TestReconcilerReadsKeptLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t)
		id := d.instance(d.runs("m")...)
		ran := d.Clock.Now().Add(time.Hour).UTC()
		d.Clock.Advance(2 * time.Hour)
		d.holds("m", id, 1, instance.SeenStopped)
		at := ran.Format(time.RFC3339Nano)
		kept := &shelf{fmt.Appendf(nil, `{"ran":{%q:["m","elsewhere"]},"existed":{%q:["m","elsewhere"]}}`, at, at)}
		d.Looks = &provisioner.Looks{Store: kept}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		var stopped instance.MachineStopped
		for e, err := range d.World.Log.Store.ReadAll(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == "instance.machine_stopped" {
				if err := json.Unmarshal(e.Data, &stopped); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !stopped.RanUntil.Equal(ran) {
			t.Errorf("got %+v, want that it ran until %v", stopped, ran)
		}
		var after struct{ Ran map[string][]string }
		if err := json.Unmarshal(kept.text, &after); err != nil || len(after.Ran[at]) != 2 {
			t.Errorf("got %s, %v, want both machines kept", kept.text, err)
		}
	})
}
