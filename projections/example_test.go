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
	Fold: &projections.Fold{
		Aggregate: account.Codec.Aggregate(),
		Key:       day,
		// The row before an event is what the same batch added to it: saving adds that to the table.
		Evolve: func(row any, e *projections.Event) (any, error) {
			event, err := e.Says()
			if err != nil {
				return nil, err // parks the event, and what follows it in its stream
			}
			if _, ok := event.(account.SignedUp); !ok {
				return nil, nil
			}
			added, _ := row.(signedUp)
			return signedUp{day(e), added.n + 1}, nil
		},
		Save: func(rows []any) projections.Statement {
			var days []string
			var n []int
			for _, row := range rows {
				days, n = append(days, row.(signedUp).day), append(n, row.(signedUp).n)
			}
			// No schema before the table's name: a rebuild fills another one beside it.
			return projections.Statement{
				SQL: `INSERT INTO sign_ups (day, n) SELECT * FROM unnest($1::date[], $2::int[])
					ON CONFLICT (day) DO UPDATE SET n = sign_ups.n + excluded.n`,
				Args: []any{days, n},
			}
		},
	},
}

type signedUp struct {
	day string
	n   int
}

func day(e *projections.Event) string { return e.Time.Format(time.DateOnly) }

// A projection folds the events of a batch into rows. A Projector writes them in one transaction with the checkpoint, so each
// event counts once; Rebuild folds the whole log.
func Example() {
	at := time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)
	var row any
	for i, event := range []account.Event{account.SignedUp{At: at}, account.PasswordChanged{}, account.SignedUp{At: at}} {
		name, schema, data, _ := account.Codec.Encode(event)
		next, err := signUps.Fold.Evolve(row, &projections.Event{Event: eventstore.Event{
			Position: int64(i) + 1, Version: 1,
			Stream:   eventstore.StreamID{Aggregate: account.Codec.Aggregate(), ID: fmt.Sprint("a", i)},
			NewEvent: eventstore.NewEvent{Type: name, Schema: schema, Time: at, Data: data},
		}})
		fmt.Println(name, next, err)
		if next != nil {
			row = next
		}
	}
	fmt.Println(signUps.Fold.Save([]any{row}).Args)
	// Output:
	// account.signed_up {2026-11-27 1} <nil>
	// account.password_changed <nil> <nil>
	// account.signed_up {2026-11-27 2} <nil>
	// [[2026-11-27] [2]]
}
