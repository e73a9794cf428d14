package projections

import (
	"context"
	"encoding/json"
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

// listColumns are the columns of an instance with those of its row of read.idle, which may be missing.
const listColumns = `i.id, i.account, i.name, i.status, i.phase, i.detail, i.reason, i.type, i.region, i.address, i.machine,
	i.created_at, i.updated_at, i.phase_since, i.position, i.versions, d.type, d.status, d.running, d.run_at, d.wake_at, d.facts`

const (
	listPage = `SELECT ` + listColumns + ` FROM (SELECT * FROM read.instances
			WHERE account = $1 AND id < $2 AND ($3 OR status <> 'terminated') ORDER BY id DESC LIMIT $4) i
		LEFT JOIN read.idle d ON d.id = i.id ORDER BY i.id DESC`
	listOnly = `SELECT ` + listColumns + ` FROM (SELECT * FROM read.instances
			WHERE account = $1 AND id < $2 AND ($3 OR status <> 'terminated') AND id = ANY (string_to_array($5, ' ')) ORDER BY id DESC LIMIT $4) i
		LEFT JOIN read.idle d ON d.id = i.id ORDER BY i.id DESC`
	listOne     = `SELECT ` + listColumns + ` FROM read.instances i LEFT JOIN read.idle d ON d.id = i.id WHERE i.account = $1 AND i.id = $2`
	listAccount = `SELECT (SELECT count(*) FROM read.instances WHERE account = $1 AND status NOT IN ('terminated', 'failed')), a.id IS NOT NULL, a.idle_policy
		FROM (SELECT) AS one LEFT JOIN read.accounts a ON a.id = $1`
)

// last is above every id.
const last = "~"

// List returns a page of the account's instances, with what the account used in a period. It is one round trip to the database,
// of which also is a part, and its connection is free again when the names are opened.
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
		sealed  []listRow
		known   bool
		rowsErr error
	)
	b.Queue(rows.SQL, rows.Args...).Query(func(rows pgx.Rows) error {
		sealed, rowsErr = pgx.CollectRows(rows, scanList())
		return nil
	})
	accountErr := errUnread
	b.Queue(listAccount, owner).QueryRow(func(row pgx.Row) error {
		accountErr = row.Scan(&l.Held, &known, &l.Policy)
		return nil
	})
	if r.Unlock != nil {
		r.Unlock(&b, owner)
	}
	intervals, models := askUsage(used.From, used.To, []string{owner})
	l.UsageErr = errUnread
	b.Queue(intervals.SQL, intervals.Args...).Query(func(rows pgx.Rows) error {
		l.Usage.Intervals, l.UsageErr = pgx.CollectRows(rows, scanInterval)
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
	l.Instances = make([]Instance, len(sealed))
	for n, s := range sealed {
		if l.Instances[n], err = r.open(ctx, s.instanceRow); err != nil {
			return l, err
		}
		l.Instances[n].Idle = s.idle.idle()
	}
	return l, nil
}

// errUnread says that a batch ended before this part of it was read.
var errUnread = errors.New("the database did not answer this query")

// listRow is a row of read.instances with that of read.idle, which is zero if it is missing.
type listRow struct {
	instanceRow
	idle idleRow
}

// scanList returns a scanner for listColumns. Most of an account's machines run the same versions, so it decodes these once.
func scanList() pgx.RowToFunc[listRow] {
	decoded := map[string]map[string]string{}
	return func(row pgx.CollectableRow) (r listRow, err error) {
		var (
			s               = &r.state
			versions, facts []byte
			kind, status    *string
			running         *bool
			run, wake       *time.Time
			known           idleFacts
		)
		if err := row.Scan(&r.id, &s.Account, &r.name, &s.Status, &s.Phase, &r.detail, &r.reason, &s.Type, &s.Region, &s.Address, &s.Machine,
			&r.createdAt, &r.updatedAt, &r.phaseSince, &r.position, &versions, &kind, &status, &running, &run, &wake, &facts); err != nil {
			return r, err
		}
		var ok bool
		if s.Versions, ok = decoded[string(versions)]; !ok {
			if err := json.Unmarshal(versions, &s.Versions); err != nil {
				return r, err
			}
			decoded[string(versions)] = s.Versions
		}
		if kind == nil {
			return r, nil
		}
		if err := json.Unmarshal(facts, &known); err != nil {
			return r, err
		}
		d := &r.idle
		d.id, d.state.Account, d.state.Type, d.state.Status, d.state.Running = r.id, s.Account, *kind, instance.Status(*status), *running
		d.know(run, wake, known)
		return r, nil
	}
}

// Instance returns one of the account's instances, or instance.ErrNotFound.
func (r *Reader) Instance(ctx context.Context, account, id string) (Instance, error) {
	rows, err := r.Pool.Query(ctx, listOne, account, id)
	if err != nil {
		return Instance{}, fmt.Errorf("find instance: %w", err)
	}
	sealed, err := pgx.CollectExactlyOneRow(rows, scanList())
	if errors.Is(err, pgx.ErrNoRows) {
		return Instance{}, instance.ErrNotFound
	}
	if err != nil {
		return Instance{}, fmt.Errorf("find instance: %w", err)
	}
	i, err := r.open(ctx, sealed.instanceRow)
	if err != nil {
		return i, fmt.Errorf("find instance: %w", err)
	}
	i.Idle = sealed.idle.idle()
	return i, nil
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
