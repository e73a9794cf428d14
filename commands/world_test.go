package commands_test

import (
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// world is commandstest's World with helpers for the tests of this package.
type world struct{ *commandstest.World }

func newWorld(limit int) *world { return &world{commandstest.NewWorld(limit)} }

func newWorldOn(store eventstore.Store, limit int) *world {
	return &world{commandstest.NewWorldOn(store, limit)}
}
