package projections

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// keptOwners bounds the owners that Live keeps, in about 10 MB.
const keptOwners = 100_000

// Live turns events into the entries that their owners may read, as read.history has them, without asking Postgres for each.
// It is for one caller at a time.
type Live struct {
	Pool DB

	owners map[string]string // of streams, by their names
}

// Owned is an entry and the account that may read it.
type Owned struct {
	Account string
	Entry   Entry
}

// Entries returns the entries of a batch for the accounts that are wanted. read.history must have the whole batch: it names the
// owners of streams that began before this process. A stream's owner is looked up once.
func (l *Live) Entries(ctx context.Context, batch []eventstore.Event, wanted func(account string) bool) ([]Owned, error) {
	var list []Owned
	var unknown []string
	for _, e := range eventsOf(batch) {
		entry, owner, err := entryOf(e)
		if err != nil || entry.Sentence == "" {
			continue // the projector parks what cannot be read
		}
		switch {
		case owner == "":
			owner = l.owners[entry.Subject]
		case e.Version == 1 && e.Stream.String() == entry.Subject: // else read.history knows whose events come first
			l.learn(entry.Subject, owner)
		}
		if owner == "" {
			unknown = append(unknown, entry.Subject)
		}
		list = append(list, Owned{owner, entry})
	}
	found, err := l.lookUp(ctx, unknown)
	if err != nil {
		return nil, err
	}
	read := list[:0]
	for _, o := range list {
		if o.Account == "" {
			o.Account = found[o.Entry.Subject]
		}
		if o.Account != "" && wanted(o.Account) {
			read = append(read, o)
		}
	}
	return read, nil
}

// lookUp returns the owners of streams. It also learns them, but with many at once, one may take the place of another.
func (l *Live) lookUp(ctx context.Context, subjects []string) (map[string]string, error) {
	if len(subjects) == 0 {
		return nil, nil
	}
	rows, err := l.Pool.Query(ctx, `SELECT DISTINCT ON (subject) subject, account FROM read.history WHERE subject = ANY ($1) ORDER BY subject, position`, subjects)
	if err != nil {
		return nil, fmt.Errorf("look up the owners of streams: %w", err)
	}
	found := make(map[string]string, len(subjects))
	var subject, owner string
	_, err = pgx.ForEachRow(rows, []any{&subject, &owner}, func() error {
		found[subject] = owner
		l.learn(subject, owner)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up the owners of streams: %w", err)
	}
	return found, nil
}

// learn keeps an owner, in place of any other if there are too many.
func (l *Live) learn(subject, owner string) {
	if l.owners == nil {
		l.owners = map[string]string{}
	}
	if _, known := l.owners[subject]; !known && len(l.owners) >= keptOwners {
		for stream := range l.owners {
			delete(l.owners, stream)
			break
		}
	}
	l.owners[subject] = owner
}
