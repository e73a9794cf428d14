package claim

import (
	"testing"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	domaintest.Decider[State, Event, Claim]{Evolve: Evolve, Decide: Decide}.Run(t, []domaintest.Case[Event, Claim]{
		{Name: "free", When: Claim{"a"}, Then: []Event{Claimed{"a"}}},
		{Name: "one's own", Given: []Event{Claimed{"a"}}, When: Claim{"a"}},
		{Name: "another's", Given: []Event{Claimed{"a"}}, When: Claim{"b"}, Err: ErrTaken},
	})
}

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec, Claimed{"01JACCOUNT"})
}
