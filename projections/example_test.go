package projections_test

import (
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/projections"
)

// signUps is a read model: how many accounts signed up on each day. A real one has a file of its own with
// its queries below, a line in All, and a migration that makes read.sign_ups.
var signUps = projections.Projection{
	Name:   "sign_ups",
	Tables: []string{"sign_ups"},
	Apply: func(e eventstore.Event) ([]projections.Statement, error) {
		if e.Stream.Aggregate != account.Codec.Aggregate() {
			return nil, nil // another aggregate's
		}
		event, err := account.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			return nil, err // parks the event, and what follows it in its stream
		}
		if _, ok := event.(account.SignedUp); !ok {
			return nil, nil
		}
		// No schema before the table's name: a rebuild fills another one beside it.
		return []projections.Statement{{
			SQL:  `INSERT INTO sign_ups (day, n) VALUES ($1, 1) ON CONFLICT (day) DO UPDATE SET n = sign_ups.n + 1`,
			Args: []any{e.Time.Format(time.DateOnly)},
		}}, nil
	},
}

// A projection turns each event into statements. A Projector runs them in one transaction with the
// checkpoint, so each event counts once; Rebuild runs them over the whole log.
func Example() {
	at := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	for i, event := range []account.Event{account.SignedUp{At: at}, account.PasswordChanged{}} {
		name, schema, data, _ := account.Codec.Encode(event)
		statements, err := signUps.Apply(eventstore.Event{
			Position: int64(i) + 1, Version: int64(i) + 1,
			Stream:   eventstore.StreamID{Aggregate: account.Codec.Aggregate(), ID: "a1"},
			NewEvent: eventstore.NewEvent{Type: name, Schema: schema, Time: at, Data: data},
		})
		fmt.Printf("%s: %d statements, %v\n", name, len(statements), err)
		for _, s := range statements {
			fmt.Println(s.SQL, s.Args)
		}
	}
	// Output:
	// account.signed_up: 1 statements, <nil>
	// INSERT INTO sign_ups (day, n) VALUES ($1, 1) ON CONFLICT (day) DO UPDATE SET n = sign_ups.n + 1 [2026-11-27]
	// account.password_changed: 0 statements, <nil>
}
