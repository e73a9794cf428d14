package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// lastWord tells whether an event says all that counts of its stream, whatever came before it: an
// operator terminated the instance, mostly because an earlier event cannot be read.
func lastWord(e eventstore.Event) bool {
	if e.Type != "instance.terminated" {
		return false
	}
	ev, err := decode(e)
	if err != nil {
		return false
	}
	t, ok := ev.(instance.Terminated)
	return ok && t.By == instance.ByOperator
}

// unpark lets the stream's parked events go.
func unpark(ctx context.Context, tx pgx.Tx, projection string, s eventstore.StreamID) error {
	_, err := tx.Exec(ctx, `DELETE FROM read.parked WHERE projection = $1 AND stream = $2`, projection, s.String())
	return err
}
