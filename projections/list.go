package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
)

// Page asks for a part of a list.
type Page struct {
	Before string // the last id of the page before, "" for the first page
	Limit  int    // 1 to 100
	All    bool   // with terminated ones
	Only   string // no others than these ids, with spaces between them; "": all
}

// Period is a time from From, until To is reached.
type Period struct{ From, To time.Time }

// Listed is a part of an account's instances, newest first, with all that the account sees of them.
type Listed struct {
	Instances []Instance
	Next      string       // cursor of the next page, "" on the last
	Held      int          // how many of the account's instances count against its quota: those that are not final
	Policy    *idle.Policy // the account's own; nil: it has set none
	PolicyErr error        // account.ErrNotFound if the read model lacks the account
	Usage     usage.Usage  // of the account in the period
	UsageErr  error        // it could not be read
}

const (
	listPage = `SELECT ` + listColumns + ` FROM (SELECT * FROM read.instances
			WHERE account = $1 AND id < $2 AND ($3 OR status <> 'terminated') ORDER BY id DESC LIMIT $4) i
		LEFT JOIN read.idle d ON d.id = i.id ORDER BY i.id DESC`
	listOnly = `SELECT ` + listColumns + ` FROM (SELECT * FROM read.instances
			WHERE account = $1 AND id < $2 AND ($3 OR status <> 'terminated') AND id = ANY (string_to_array($5, ' ')) ORDER BY id DESC LIMIT $4) i
		LEFT JOIN read.idle d ON d.id = i.id ORDER BY i.id DESC`
	listOne     = `SELECT ` + listColumns + ` FROM read.instances i LEFT JOIN read.idle d ON d.id = i.id WHERE i.account = $1 AND i.id = $2`
	listHeld    = `SELECT count(*) FROM read.instances WHERE account = $1 AND status NOT IN ('terminated', 'failed')`
	listAccount = `SELECT a.id IS NOT NULL, a.idle_policy FROM (SELECT) AS one LEFT JOIN read.accounts a ON a.id = $1`
)

// last is above every id.
const last = "~"

// List returns a page of the account's instances, with what the account used in a period. It is one round trip to the database,
// of which also is a part, and a second one to count the account's instances if the page does not have them all. The connection
// is free again when the names are opened.
func (r *Reader) List(ctx context.Context, account string, p Page, used Period, also ...func(*pgx.Batch)) (Listed, error) {
	before := p.Before
	if before == "" {
		before = last
	}
	page := Statement{listPage, []any{account, before, p.All, p.Limit + 1}}
	if p.Only != "" {
		page = Statement{listOnly, append(page.Args, p.Only)}
	}
	l, err := r.list(ctx, page, account, used, also)
	if err != nil {
		return l, fmt.Errorf("list instances: %w", err)
	}
	switch {
	case p.Before == "" && len(l.Instances) <= p.Limit: // these are all
		for n := range l.Instances {
			if !l.Instances[n].final() {
				l.Held++
			}
		}
	default:
		if err := r.Pool.QueryRow(ctx, listHeld, account).Scan(&l.Held); err != nil {
			return l, fmt.Errorf("count instances: %w", err)
		}
	}
	if len(l.Instances) > p.Limit {
		l.Instances = l.Instances[:p.Limit]
		l.Next = l.Instances[p.Limit-1].ID
	}
	return l, nil
}

// Desktop is List for one of the account's instances. Without it, Desktop returns instance.ErrNotFound.
func (r *Reader) Desktop(ctx context.Context, account, id string, used Period, also ...func(*pgx.Batch)) (Listed, error) {
	l, err := r.list(ctx, Statement{listOne, []any{account, id}}, account, used, also)
	if err != nil {
		return l, fmt.Errorf("find instance: %w", err)
	}
	if len(l.Instances) == 0 {
		return l, instance.ErrNotFound
	}
	return l, nil
}

// list sends all queries as one batch. Those whose failure leaves something out, instead of failing the list, come last:
// after an error the database answers no other.
func (r *Reader) list(ctx context.Context, rows Statement, owner string, used Period, also []func(*pgx.Batch)) (l Listed, err error) {
	var (
		b       pgx.Batch
		names   [][]byte // sealed
		known   bool
		rowsErr error
	)
	b.Queue(rows.SQL, rows.Args...).Query(func(rows pgx.Rows) error {
		l.Instances, names, rowsErr = scanList(rows, owner)
		return nil
	})
	accountErr := errUnread
	b.Queue(listAccount, owner).QueryRow(func(row pgx.Row) error {
		accountErr = row.Scan(&known, &l.Policy)
		return nil
	})
	if r.Unlock != nil {
		r.Unlock(&b, owner)
	}
	intervals, models := askUsage(used.From, used.To, []string{owner})
	l.UsageErr = errUnread
	b.Queue(intervals.SQL, intervals.Args...).Query(func(rows pgx.Rows) error {
		l.Usage.Intervals, l.UsageErr = scanIntervals(rows)
		return nil
	})
	b.Queue(models.SQL, models.Args...).Query(func(rows pgx.Rows) (err error) {
		if l.Usage.Models, err = pgx.CollectRows(rows, scanModelDay); l.UsageErr == nil {
			l.UsageErr = err
		}
		return nil
	})
	for _, add := range also {
		add(&b)
	}
	err = r.Pool.SendBatch(ctx, &b).Close()
	switch {
	case rowsErr != nil:
		return l, rowsErr
	case accountErr != nil && err != nil:
		return l, err
	case accountErr != nil:
		return l, accountErr
	}
	if !known {
		l.PolicyErr = account.ErrNotFound
	}
	return l, r.openNames(ctx, owner, l.Instances, names)
}

// openNames gives an account's instances their names. Like open it is called without a connection.
func (r *Reader) openNames(ctx context.Context, account string, list []Instance, sealed [][]byte) error {
	for n := range list {
		i := &list[n]
		name, err := r.Open(ctx, account, r.NameLabel(i.ID), sealed[n])
		if err != nil {
			return fmt.Errorf("open name of %s: %w", i.ID, err)
		}
		i.Name = string(name)
	}
	return nil
}

// errUnread says that a batch ended before this part of it was read.
var errUnread = errors.New("the database did not answer this query")

// Instance returns one of the account's instances, or instance.ErrNotFound.
func (r *Reader) Instance(ctx context.Context, account, id string) (Instance, error) {
	rows, err := r.Pool.Query(ctx, listOne, account, id)
	if err != nil {
		return Instance{}, fmt.Errorf("find instance: %w", err)
	}
	list, names, err := scanList(rows, account)
	if err != nil {
		return Instance{}, fmt.Errorf("find instance: %w", err)
	}
	if len(list) == 0 {
		return Instance{}, instance.ErrNotFound
	}
	if err := r.openNames(ctx, account, list, names); err != nil {
		return Instance{}, fmt.Errorf("find instance: %w", err)
	}
	return list[0], nil
}

// Latest returns the position of each account's latest event that its owner may read. An account without one is left out.
func (r *Reader) Latest(ctx context.Context, accounts []string) (map[string]int64, error) {
	rows, err := r.Pool.Query(ctx, `SELECT a, (SELECT position FROM read.history WHERE account = a ORDER BY position DESC LIMIT 1) AS at
		FROM unnest((SELECT $1::text[])) AS accounts (a)`, accounts) // the planner does not see the array, and plans only once
	if err != nil {
		return nil, fmt.Errorf("look for new events: %w", err)
	}
	latest := make(map[string]int64, len(accounts))
	var account string
	var at *int64
	if _, err := pgx.ForEachRow(rows, []any{&account, &at}, func() error {
		if at != nil {
			latest[account] = *at
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look for new events: %w", err)
	}
	return latest, nil
}
