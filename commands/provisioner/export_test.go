package provisioner

import (
	"context"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
)

// Call makes one call, for tests.
func Call(ctx context.Context, s *Saga, id string, state instance.State, step provisioning.Step) (instance.Command, error) {
	return s.call(ctx, id, state, step)
}

// Execute carries out one step.
func Execute(ctx context.Context, s *Saga, id string, state instance.State, step provisioning.Step) (instance.Command, error) {
	return s.execute(ctx, id, state, step)
}
