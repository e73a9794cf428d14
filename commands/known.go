package commands

import (
	"context"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Known reports whether the log has an account and a session: a log that was restored from an older backup
// lacks the later ones, whose tokens are still good by themselves.
func (a *Accounts) Known(ctx context.Context, account, session string) (bool, error) {
	for _, stream := range []eventstore.StreamID{{Aggregate: "session", ID: session}, {Aggregate: "account", ID: account}} {
		if version, err := a.Log.Store.Version(ctx, stream); err != nil || version == 0 {
			return false, err
		}
	}
	return true, nil
}

// Known reports whether the log has an instance.
func (i *Instances) Known(ctx context.Context, id string) (bool, error) {
	version, err := i.Log.Store.Version(ctx, eventstore.StreamID{Aggregate: "instance", ID: id})
	return version > 0, err
}
