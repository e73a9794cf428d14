package memory_test

import (
	"testing"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/eventstoretest"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	eventstoretest.Run(t, func(t *testing.T) eventstore.Store { return memory.New() })
}
