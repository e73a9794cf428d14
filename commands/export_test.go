package commands

import (
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Folder is an aggregate's codec and fold without its types.
type Folder struct {
	Dir    string
	Decode func(typ string, schema int, data []byte) (any, error)
	Evolve func(state, event any) any
}

func folder[S, E, C any](dir string, a eventstore.Aggregate[S, E, C]) Folder {
	return Folder{dir, func(typ string, schema int, data []byte) (any, error) { return a.Codec.Decode(typ, schema, data) },
		func(state, event any) any {
			s, _ := state.(S)
			return a.Evolve(s, event.(E))
		}}
}

// Folds lists all aggregates.
var Folds = []Folder{
	folder("account", accounts), folder("claim", claims), folder("session", sessions), folder("apikey", apikeys),
	folder("instance", instances), folder("quota", quotas), folder("invite", invites), folder("fleet", fleets), folder("audit", audits),
	folder("budget", budgets), folder("billing", billings),
}
