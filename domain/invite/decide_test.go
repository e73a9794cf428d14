package invite

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

var (
	t0      = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	until   = t0.Add(7 * 24 * time.Hour)
	open    = Created{At: t0, ExpiresAt: until}
	bound   = Created{Address: "hash of ada's", At: t0, ExpiresAt: until}
	use     = Use{Account: "ada", Address: "hash of ada's", At: t0.Add(time.Hour)}
	decider = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}
)

func TestDecide(t *testing.T) {
	t.Parallel()
	late, eve := use, use
	late.At, eve.Account, eve.Address = until, "eve", "hash of eve's"
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "create", When: Create(bound), Then: []Event{bound}},
		{Name: "create twice", Given: []Event{open}, When: Create(open), Err: domaintest.ErrAny},
		{Name: "use", Given: []Event{open}, When: use, Then: []Event{Used{"ada"}}},
		{Name: "use by the one it is for", Given: []Event{bound}, When: use, Then: []Event{Used{"ada"}}},
		{Name: "use by another", Given: []Event{bound}, When: eve, Err: ErrRefused},
		{Name: "use again", Given: []Event{open, Used{"ada"}}, When: use},
		{Name: "use what another has used", Given: []Event{open, Used{"ada"}}, When: eve, Err: ErrRefused},
		{Name: "use too late", Given: []Event{open}, When: late, Err: ErrRefused},
		{Name: "use what was revoked", Given: []Event{open, Revoked{}}, When: use, Err: ErrRefused},
		{Name: "use what never was", When: use, Err: ErrRefused},
		{Name: "revoke", Given: []Event{open}, When: Revoke{}, Then: []Event{Revoked{}}},
		{Name: "revoke again", Given: []Event{open, Revoked{}}, When: Revoke{}},
		{Name: "revoke what was used", Given: []Event{open, Used{"ada"}}, When: Revoke{}, Err: ErrUsed},
		{Name: "revoke what never was", When: Revoke{}, Err: ErrNotFound},
		{Name: "unknown command", Given: []Event{open}, Err: domaintest.ErrAny},
	})
}

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec, bound, Used{"01JACCOUNT"}, Revoked{})
}
