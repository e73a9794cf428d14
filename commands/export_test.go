package commands

import (
	"context"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Tell lets tests stand in for the saga.
func Tell(ctx context.Context, l Log, id string, c instance.Command) (eventstore.Result, error) {
	return tell(ctx, l, id, c, nil)
}

// StateOf folds an instance's stream.
func StateOf(ctx context.Context, l Log, id string) (instance.State, error) {
	return eventstore.Fold(ctx, l.Store, instances, id)
}
