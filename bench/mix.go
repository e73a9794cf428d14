package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/domain/audit"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

// sealed returns bytes that no compression makes smaller, like a ciphertext.
func sealed(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// said is an event on its way into the log.
type said struct {
	stream eventstore.StreamID
	event  eventstore.NewEvent
	err    error
}

func say[E any](aggregate, id, actor string, encode func(E) (string, int, []byte, error), e E) said {
	name, schema, data, err := encode(e)
	now := time.Now().UTC().Truncate(time.Microsecond)
	command := ulid.Make().String()
	return said{eventstore.StreamID{Aggregate: aggregate, ID: id}, eventstore.NewEvent{
		ID: ulid.Make().String(), Type: name, Schema: schema, Time: now, Data: data,
		Meta: eventstore.Metadata{Actor: actor, CommandID: command, CorrelationID: command},
	}, err}
}

// story is what an account does in its first weeks: it signs up, logs in on two devices, stores keys, and uses a desktop until
// it is terminated. It has 46 events.
func story() (list []said) {
	owner, desktop, now := ulid.Make().String(), ulid.Make().String(), time.Now().UTC()
	list = append(list, say[account.Event]("account", owner, owner, account.Codec.Encode, account.SignedUp{Email: sealed(60), Password: sealed(100), At: now}))
	logIn := func(refreshes int) {
		id := ulid.Make().String()
		leaf := session.Leaf{Generation: 1, TokenID: ulid.Make().String(), IssuedAt: now, ExpiresAt: now.Add(session.Idle)}
		add := func(e session.Event) {
			list = append(list, say("session", id, owner, session.Codec.Encode, e))
		}
		add(session.Started{Account: owner, Leaf: leaf, Agent: "Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0.0.0", Address: sealed(48)})
		for range refreshes {
			leaf.Generation++
			leaf.TokenID = ulid.Make().String()
			add(session.Refreshed{Leaf: leaf, Client: "0123456789abcdef"})
		}
		add(session.Ended{Reason: session.LoggedOut})
	}
	logIn(4)
	for _, provider := range []string{"openai", "anthropic"} {
		list = append(list, say[apikey.Event]("apikey", owner+"-"+provider, owner, apikey.Codec.Encode,
			apikey.Stored{Account: owner, Provider: provider, Version: 1, Key: sealed(120), Last4: "wxyz"}))
	}
	list = append(list, say[quota.Event]("quota", owner, owner, quota.Codec.Encode, quota.SlotTaken{Instance: desktop}))
	for n, e := range life(owner, now) {
		actor := "system"
		if n == 0 {
			actor = owner
		}
		list = append(list, say("instance", desktop, actor, instance.Codec.Encode, e))
		switch e.(type) {
		case instance.GuestEnrolled:
			list = append(list, say[audit.Event]("audit", owner, "system", audit.Codec.Encode, audit.KeysHandedOut{Instance: desktop}))
		case instance.PhaseReached:
			list = append(list, say[instance.Event]("instance", desktop, "system", instance.Codec.Encode,
				instance.ModelCostReported{Meter: "meter-1", Total: int64(n) * 1000, Added: 1000, At: now}))
		}
	}
	list = append(list, say[quota.Event]("quota", owner, "system", quota.Codec.Encode, quota.SlotReleased{Instance: desktop}))
	logIn(3)
	return list
}

// together is how many accounts of a mix are busy at a time.
const together = 50

// fillMix appends at least n events of accounts that do things side by side, and returns how many.
func fillMix(ctx context.Context, store eventstore.Store, n int) (events int, err error) {
	g, ctx := errgroup.WithContext(ctx)
	const writers = 4
	counts := make([]int, writers)
	for w := range writers {
		g.Go(func() error {
			for counts[w] < (n+writers-1)/writers {
				appended, err := appendStories(ctx, store)
				if err != nil {
					return err
				}
				counts[w] += appended
			}
			return nil
		})
	}
	err = g.Wait()
	for _, c := range counts {
		events += c
	}
	return events, err
}

// filled returns the store of a log with at least n events of a mix, as Postgres keeps it after a while, and how many.
func (l *lab) filled(ctx context.Context, n int) (store *postgres.Store, events int, err error) {
	if store, err = l.open(ctx); err != nil {
		return nil, 0, err
	}
	if events, err = fillMix(ctx, store, n); err == nil {
		_, err = l.pool.Exec(ctx, `VACUUM ANALYZE log.entries`)
	}
	if err != nil {
		store.Close()
		return nil, 0, err
	}
	return store, events, nil
}

// appendStories appends the stories of so many accounts, two events of each at a time.
func appendStories(ctx context.Context, store eventstore.Store) (events int, err error) {
	stories := make([][]said, together)
	for n := range stories {
		stories[n] = story()
	}
	versions := map[eventstore.StreamID]int64{}
	for at := 0; at < len(stories[0]); at += 2 {
		var a eventstore.Append
		of := map[eventstore.StreamID]int{}
		for _, s := range stories {
			for _, x := range s[at:min(at+2, len(s))] {
				if x.err != nil {
					return events, fmt.Errorf("encode: %w", x.err)
				}
				n, known := of[x.stream]
				if !known {
					n, of[x.stream] = len(a.Writes), len(a.Writes)
					a.Writes = append(a.Writes, eventstore.Write{Stream: x.stream, Expected: versions[x.stream]})
				}
				a.Writes[n].Events = append(a.Writes[n].Events, x.event)
				versions[x.stream]++
				events++
			}
		}
		if _, err := store.Append(ctx, a); err != nil {
			return events, err
		}
	}
	return events, nil
}
