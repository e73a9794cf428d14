package main

import (
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// payload is an event's data, and the one column of pgbench's table.
const payload = `{"instance_id":"01J8Z3K4M5N6P7Q8R9S0T1V2W3","type":"t3.medium","region":"us-east-1",` +
	`"image":"ami-0123456789abcdef0","volume_gib":20,"state":"requested","attempt":1}`

const answer = `{"id":"01J8Z3K4M5N6P7Q8R9S0T1V2W3","state":"requested"}`

// perStream is how far each stream grows: most appends build on a version, as in the product.
const perStream = 4

// caller is one client of the log: it opens a stream, lets it grow, opens the next. Each append
// is one event with its version check and its receipt.
type caller struct {
	account string
	stream  eventstore.StreamID
	version int64
	events  []eventstore.NewEvent
}

func newCaller() *caller { return &caller{account: ulid.Make().String()} }

func (c *caller) next() eventstore.Append {
	if c.version%perStream == 0 {
		c.stream, c.version = eventstore.StreamID{Aggregate: "instance", ID: ulid.Make().String()}, 0
	}
	command := ulid.Make().String()
	c.events = []eventstore.NewEvent{{
		ID: ulid.Make().String(), Type: "instance.requested", Schema: 1, Time: time.Now(),
		Data: []byte(payload),
		Meta: eventstore.Metadata{Actor: c.account, CommandID: command, CorrelationID: command},
	}}
	a := eventstore.Append{
		Writes:  []eventstore.Write{{Stream: c.stream, Expected: c.version, Events: c.events}},
		Receipt: &eventstore.Receipt{Key: c.account + "/" + command, Request: make([]byte, 32), Response: []byte(answer)},
	}
	c.version++
	return a
}

func ratio(a, b float64) string { return fmt.Sprintf("%.2f", a/b) }
