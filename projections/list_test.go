package projections_test

import (
	"slices"
	"testing"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/projections"
)

// Latest stands for every event that changes what a list shows, because the history has it. Of the events it lacks, only what
// the models cost changes a list: a cost, which nothing waits for.
func TestLatestHasWhatChangesLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everything("ada", "01LATEST000000000000000001")
	w.project(projections.All()...)
	w.caughtUp()
	inHistory := map[int64]bool{}
	entries, err := w.reader.Since(t.Context(), "ada", 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		inHistory[e.Position] = true
	}
	var missing []string
	for e, err := range w.store.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Stream.Aggregate {
		case instance.Codec.Aggregate(), account.Codec.Aggregate(), billing.Codec.Aggregate():
			if !inHistory[e.Position] {
				missing = append(missing, e.Type)
			}
		}
	}
	slices.Sort(missing)
	if want := []string{"account.password_rehashed", "billing.checkout_seen", "billing.usage_settled", "instance.model_cost_reported"}; !slices.Equal(slices.Compact(missing), want) {
		t.Errorf("got events %v that the history lacks, want %v", missing, want)
	}
	latest, err := w.reader.Latest(t.Context(), []string{"ada", "eve", "ada"})
	if last := entries[len(entries)-1].Position; err != nil || len(latest) != 1 || latest["ada"] != last {
		t.Errorf("got %v, %v, want ada's latest event, %d, and nothing of an account without events", latest, err, last)
	}
}
