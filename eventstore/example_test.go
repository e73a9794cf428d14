package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// Append to a stream at the version that was read, and read the stream back. With the Postgres store
// only the first line differs. Commands do not append like this: they call Aggregate.Execute in Run.
func Example() {
	store := memory.New() // or postgres.Open(ctx, postgres.Config{URL: url})
	ctx := context.Background()
	cart := eventstore.StreamID{Aggregate: "cart", ID: "c1"}
	added := func(id, item string) eventstore.NewEvent {
		data, _ := json.Marshal(map[string]string{"item": item})
		return eventstore.NewEvent{
			ID: id, Type: "cart.item_added", Schema: 1, Time: time.Now(), Data: data,
			Meta: eventstore.Metadata{Actor: "ada"},
		}
	}

	// Expected 0 says that the stream must not exist yet. All writes of an append are kept, or none.
	result, err := store.Append(ctx, eventstore.Append{Writes: []eventstore.Write{
		{Stream: cart, Expected: 0, Events: []eventstore.NewEvent{added("e1", "tea"), added("e2", "milk")}},
	}})
	fmt.Println("positions", result.First, "to", result.Last, err)

	// A writer that has not seen the two events gets a conflict: read again, decide again.
	_, err = store.Append(ctx, eventstore.Append{Writes: []eventstore.Write{
		{Stream: cart, Expected: 0, Events: []eventstore.NewEvent{added("e3", "rum")}},
	}})
	if conflict := (*eventstore.ConflictError)(nil); errors.As(err, &conflict) {
		fmt.Println("conflict: expected version", conflict.Expected, "but it is", conflict.Actual)
	}

	for event, err := range store.ReadStream(ctx, cart, 0) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.Position, event.Stream, event.Version, event.Type, string(event.Data))
	}
	// Output:
	// positions 1 to 2 <nil>
	// conflict: expected version 0 but it is 2
	// 1 cart/c1 1 cart.item_added {"item":"tea"}
	// 2 cart/c1 2 cart.item_added {"item":"milk"}
}
