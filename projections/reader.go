package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// DB is what the read models need of a connection pool.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Begin(ctx context.Context) (pgx.Tx, error)
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Reader answers the front's queries from the read models. A query names the account it is for and
// sees nothing of any other; those over all accounts say so.
type Reader struct {
	Pool DB
	// Open unseals an account's data; see commands.Vault.
	Open func(ctx context.Context, account, label string, sealed []byte) ([]byte, error)
	// NameLabel is what an instance's name was sealed with.
	NameLabel func(instanceID string) string
	// AddressLabel is what the client's address of a session was sealed with.
	AddressLabel func(sessionID string) string
	// Progress tells how far the read models are.
	Progress *Progress
}

// Instance is a desktop as its owner sees it.
type Instance struct {
	ID         string
	Name       string
	Status     instance.Status
	Phase      instance.Phase
	Detail     string // what the guest says of the phase
	Reason     string // why it is as it is, a sentence; "" while all is well
	Type       string
	Region     string
	Address    string // public, "" for none
	Machine    string // the cloud's id, "" for none
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Position   int64             // of the event that last changed it
	PhaseSince time.Time         // when the present phase began
	Versions   map[string]string // what the machine runs, by name
}

// Ready tells whether desktop and agent can be used.
func (i Instance) Ready() bool { return i.Status == instance.Running && i.Phase == instance.PhaseReady }

// Percent is how far the boot is, 0 to 100.
func (i Instance) Percent() int {
	return max(0, i.Phase.Rank()) * 100 / (len(instance.Phases) - 1)
}

// Page asks for a part of a list.
type Page struct {
	Before string // the last id of the page before, "" for the first page
	Limit  int    // 1 to 100
	All    bool   // with terminated ones
}

const instanceColumns = `id, name, status, phase, detail, reason, type, region, address, machine, created_at, updated_at, position, phase_since, versions`

// Instances returns the account's instances, newest first, and the cursor of the next page, "" on the last.
func (r *Reader) Instances(ctx context.Context, account string, p Page) (list []Instance, next string, err error) {
	rows, err := r.Pool.Query(ctx, `SELECT `+instanceColumns+` FROM read.instances
		WHERE account = $1 AND ($2 = '' OR id < $2) AND ($3 OR status <> 'terminated')
		ORDER BY id DESC LIMIT $4`, account, p.Before, p.All, p.Limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list instances: %w", err)
	}
	sealed, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, "", fmt.Errorf("list instances: %w", err)
	}
	list = make([]Instance, 0, len(sealed))
	for _, s := range sealed {
		i, err := r.open(ctx, account, s)
		if err != nil {
			return nil, "", fmt.Errorf("list instances: %w", err)
		}
		list = append(list, i)
	}
	if len(list) > p.Limit {
		list = list[:p.Limit]
		next = list[p.Limit-1].ID
	}
	return list, next, nil
}

// Instance returns one of the account's instances, or instance.ErrNotFound.
func (r *Reader) Instance(ctx context.Context, account, id string) (Instance, error) {
	rows, err := r.Pool.Query(ctx, `SELECT `+instanceColumns+` FROM read.instances WHERE account = $1 AND id = $2`, account, id)
	if err != nil {
		return Instance{}, fmt.Errorf("find instance: %w", err)
	}
	sealed, err := pgx.CollectExactlyOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return Instance{}, instance.ErrNotFound
	}
	if err != nil {
		return Instance{}, fmt.Errorf("find instance: %w", err)
	}
	i, err := r.open(ctx, account, sealed)
	if err != nil {
		return i, fmt.Errorf("find instance: %w", err)
	}
	return i, nil
}

// sealedInstance is a row whose name is still sealed. Names are opened once the rows' connection was
// given back: the key may have to be asked for, and a call that holds one connection while it waits
// for another can lock up a whole pool.
type sealedInstance struct {
	Instance
	name []byte
}

func scan(row pgx.CollectableRow) (i sealedInstance, err error) {
	err = row.Scan(&i.ID, &i.name, &i.Status, &i.Phase, &i.Detail, &i.Reason, &i.Type, &i.Region, &i.Address,
		&i.Machine, &i.CreatedAt, &i.UpdatedAt, &i.Position, &i.PhaseSince, &i.Versions)
	return i, err
}

func (r *Reader) open(ctx context.Context, account string, s sealedInstance) (Instance, error) {
	name, err := r.Open(ctx, account, r.NameLabel(s.ID), s.name)
	if err != nil {
		return s.Instance, fmt.Errorf("open name of %s: %w", s.ID, err)
	}
	s.Name = string(name)
	return s.Instance, nil
}

// Entry is an event as the owner may read it.
type Entry struct {
	Position int64
	EventID  string
	Time     time.Time
	Type     string // wire name
	Subject  string // "instance/01J…"
	Actor    string // the account's id, or "system"
	Sentence string // what happened, for people
	Data     json.RawMessage
}

const entryColumns = `position, event_id, time, type, subject, actor, sentence, data`

// History returns the events of one of the account's instances with a position above after, oldest first.
func (r *Reader) History(ctx context.Context, account, id string, after int64, limit int) ([]Entry, error) {
	return r.entries(ctx, `SELECT `+entryColumns+` FROM read.history
		WHERE subject = $1 AND account = $2 AND position > $3 ORDER BY position LIMIT $4`, "instance/"+id, account, after, limit)
}

// HistoryBefore returns the events of one of the account's instances with a position below before, newest first.
func (r *Reader) HistoryBefore(ctx context.Context, account, id string, before int64, limit int) ([]Entry, error) {
	return r.entries(ctx, `SELECT `+entryColumns+` FROM read.history
		WHERE subject = $1 AND account = $2 AND position < $3 ORDER BY position DESC LIMIT $4`, "instance/"+id, account, before, limit)
}

// AccountHistory returns the account's events that are about none of its instances, with a position
// above after, oldest first.
func (r *Reader) AccountHistory(ctx context.Context, account string, after int64, limit int) ([]Entry, error) {
	return r.entries(ctx, `SELECT `+entryColumns+` FROM read.history
		WHERE account = $1 AND position > $2 AND subject NOT LIKE 'instance/%' ORDER BY position LIMIT $3`, account, after, limit)
}

// AccountHistoryBefore is AccountHistory for positions below before, newest first.
func (r *Reader) AccountHistoryBefore(ctx context.Context, account string, before int64, limit int) ([]Entry, error) {
	return r.entries(ctx, `SELECT `+entryColumns+` FROM read.history
		WHERE account = $1 AND position < $2 AND subject NOT LIKE 'instance/%' ORDER BY position DESC LIMIT $3`, account, before, limit)
}

// Since returns the account's events with a position above after, oldest first.
func (r *Reader) Since(ctx context.Context, account string, after int64, limit int) ([]Entry, error) {
	return r.entries(ctx, `SELECT `+entryColumns+` FROM read.history
		WHERE account = $1 AND position > $2 ORDER BY position LIMIT $3`, account, after, limit)
}

func (r *Reader) entries(ctx context.Context, query string, args ...any) ([]Entry, error) {
	rows, err := r.Pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Entry, err error) {
		err = row.Scan(&e.Position, &e.EventID, &e.Time, &e.Type, &e.Subject, &e.Actor, &e.Sentence, &e.Data)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return list, nil
}

// Session is a login as its owner sees it.
type Session struct {
	ID         string
	Agent      string // User-Agent
	ClientAddr string // at login
	StartedAt  time.Time
	SeenAt     time.Time // last refresh
	ExpiresAt  time.Time
}

// Sessions returns the account's live sessions, latest first, at most 1000.
func (r *Reader) Sessions(ctx context.Context, account string) ([]Session, error) {
	rows, err := r.Pool.Query(ctx, `SELECT id, agent, address, started_at, seen_at, expires_at FROM read.sessions
		WHERE account = $1 AND ended = '' AND expires_at > now() ORDER BY seen_at DESC, id DESC LIMIT 1000`, account)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var sealed [][]byte
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Session, err error) {
		var address []byte
		err = row.Scan(&s.ID, &s.Agent, &address, &s.StartedAt, &s.SeenAt, &s.ExpiresAt)
		sealed = append(sealed, address)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	for i, s := range sealed {
		if s == nil {
			continue
		}
		address, err := r.Open(ctx, account, r.AddressLabel(list[i].ID), s)
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		list[i].ClientAddr = string(address)
	}
	return list, nil
}

// EndedSince returns the ids of the sessions of all accounts that ended after t: what a front
// that starts must refuse although their access tokens still run.
func (r *Reader) EndedSince(ctx context.Context, t time.Time) ([]string, error) {
	rows, err := r.Pool.Query(ctx, `SELECT id FROM read.sessions WHERE ended <> '' AND ended_at > $1`, t)
	if err != nil {
		return nil, fmt.Errorf("list ended sessions: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// APIKey is a stored key as its owner sees it.
type APIKey struct {
	Provider  string
	Last4     string
	UpdatedAt time.Time
}

// APIKeys returns the account's stored keys by provider.
func (r *Reader) APIKeys(ctx context.Context, account string) ([]APIKey, error) {
	rows, err := r.Pool.Query(ctx, `SELECT provider, last4, updated_at FROM read.api_keys WHERE account = $1 ORDER BY provider`, account)
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[APIKey])
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", err)
	}
	return list, nil
}

// Spread says how long something takes, in milliseconds: half the time no longer than P50, and one time
// in twenty longer than P95.
type Spread struct{ P50, P95 int64 }

// PhaseTime is how long it takes from a boot's request to a phase.
type PhaseTime struct {
	Phase instance.Phase
	Spread
}

// BootTimes is how long boots of a kind take.
type BootTimes struct {
	Samples int         // boots it is made from
	Phases  []PhaseTime // in order, those that there are samples of; ready is the last
}

// latestBoots is how many boots of a kind BootTimes looks at.
const latestBoots = 200

// BootTimes returns by kind how long the latest boots of a machine type took, "" for any type, over
// all accounts: nothing but numbers.
func (r *Reader) BootTimes(ctx context.Context, machineType string) (map[string]BootTimes, error) {
	// A condition of its own, not "or any": for that no index fits, and a type that nobody has would be
	// looked for in all boots there ever were.
	ofType, args := "", []any{BootLaunch, BootStart, latestBoots}
	if machineType != "" {
		ofType, args = "AND type = $4", append(args, machineType)
	}
	rows, err := r.Pool.Query(ctx, `SELECT kind, phase, count(*),
			percentile_disc(0.5) WITHIN GROUP (ORDER BY ms::bigint), percentile_disc(0.95) WITHIN GROUP (ORDER BY ms::bigint)
		FROM (VALUES ($1), ($2)) AS kinds (kind)
		CROSS JOIN LATERAL (SELECT reached FROM read.boots b
			WHERE b.kind = kinds.kind AND ready_at IS NOT NULL `+ofType+` ORDER BY began DESC LIMIT $3) AS latest
		CROSS JOIN LATERAL jsonb_each_text(reached) AS phases (phase, ms)
		GROUP BY kind, phase`, args...)
	if err != nil {
		return nil, fmt.Errorf("read boot times: %w", err)
	}
	times := map[string]BootTimes{}
	var kind string
	var samples int
	var p PhaseTime
	_, err = pgx.ForEachRow(rows, []any{&kind, &p.Phase, &samples, &p.P50, &p.P95}, func() error {
		t := times[kind]
		t.Phases = append(t.Phases, p)
		if p.Phase == instance.PhaseReady {
			t.Samples = samples
		}
		times[kind] = t
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read boot times: %w", err)
	}
	for _, t := range times {
		slices.SortFunc(t.Phases, func(a, b PhaseTime) int { return a.Phase.Rank() - b.Phase.Rank() })
	}
	return times, nil
}

// Live returns the ids of all instances that are not final, and the position the list is as of.
// The saga starts from it.
func (r *Reader) Live(ctx context.Context) (ids []string, position int64, err error) {
	err = pgx.BeginTxFunc(ctx, r.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// The snapshot must be younger than the table: without the lock, a rebuild could put in a new
		// one between them, whose last rows the snapshot does not see.
		if _, err := tx.Exec(ctx, `LOCK TABLE read.instances IN ACCESS SHARE MODE`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT id FROM read.instances WHERE status NOT IN ('terminated', 'failed')`)
		if err != nil {
			return err
		}
		if ids, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `SELECT position FROM read.checkpoints WHERE projection = 'instances'`).Scan(&position)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list live instances: %w", err)
	}
	return ids, position, nil
}
