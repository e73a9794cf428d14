package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// applyInstances keeps read.instances: one row an instance, terminated ones included. What it
// says of status and phase is what instance.Evolve says; a test holds the two together.
func applyInstances(e eventstore.Event) ([]Statement, error) {
	if e.Stream.Aggregate != "instance" {
		return nil, nil
	}
	ev, err := decode(e)
	if err != nil {
		return nil, err
	}
	id, at, n := e.Stream.ID, e.Time, e.Position
	set := func(assignments string, args ...any) ([]Statement, error) {
		return sql(`UPDATE instances SET updated_at = $2, position = $3`+assignments+` WHERE id = $1`, append([]any{id, at, n}, args...)...), nil
	}
	switch ev := ev.(type) {
	case instance.Requested:
		return sql(`INSERT INTO instances (id, account, name, status, phase, type, region, created_at, updated_at, phase_since, position)
			VALUES ($1, $2, $3, 'launching', 'requested', $4, $5, $6, $6, $6, $7)`,
			id, ev.Account, ev.Name, ev.Type, ev.Region, at, n), nil
	case instance.Renamed:
		return set(`, name = $4`, ev.Name)
	case instance.LaunchAttempted:
		return set(`, phase = 'allocating', phase_since = $2`)
	case instance.MachineLaunched:
		return set(`, machine = $4, reason = '', phase_since = CASE WHEN phase IN ('requested', 'allocating') THEN $2 ELSE phase_since END,
			phase = CASE WHEN phase IN ('requested', 'allocating') THEN 'booting' ELSE phase END`, ev.Machine)
	case instance.CallRefused:
		if ev.Call == instance.CallStart && ev.Verdict == instance.Never {
			return set(`, reason = $4, status = 'stopped'`, ev.Reason)
		}
		return set(`, reason = $4`, ev.Reason)
	case instance.CallAccepted:
		return set(`, reason = ''`)
	case instance.LaunchAbandoned:
		return set(`, status = 'terminating', reason = $4`, ev.Reason)
	case instance.MachineRunning:
		return set(`, address = $4, reason = '', status = CASE WHEN status IN ('launching', 'starting', 'stopping', 'stopped') THEN 'running' ELSE status END`, ev.Address)
	case instance.AddressChanged:
		return set(`, address = $4`, ev.Address)
	case instance.PhaseReached:
		return set(`, phase = $4, detail = $5, phase_since = $2, reason = ''`, string(ev.Phase), ev.Detail)
	case instance.VersionsReported:
		text, err := json.Marshal(ev.Versions)
		if err != nil {
			return nil, err
		}
		return set(`, versions = $4`, string(text))
	case instance.BootStalled:
		return set(`, reason = $4`, ev.Reason)
	case instance.StopRequested:
		reason := ""
		if ev.Outside {
			reason = "The machine is being stopped from outside the control plane."
		}
		return set(`, status = 'stopping', reason = $4`, reason)
	case instance.StartRequested:
		return set(`, status = 'starting', reason = ''`)
	case instance.TerminationRequested:
		return set(`, status = 'terminating', reason = ''`)
	case instance.MachineStopped:
		reason := ""
		if !ev.Asked {
			reason = "The machine was stopped from outside the control plane; start it again."
		}
		return set(`, address = '', phase = 'booting', detail = '', phase_since = $2,
			reason = CASE WHEN status = 'terminating' THEN reason ELSE $4 END,
			status = CASE WHEN status = 'terminating' THEN status ELSE 'stopped' END`, reason)
	case instance.MachineGone:
		return set(`, machine = '', address = ''`)
	case instance.Terminated:
		if ev.By == instance.ByOperator {
			return set(`, status = 'terminated', reason = $4, machine = '', address = ''`, "The operator of this server terminated the desktop.")
		}
		return set(`, status = 'terminated', reason = ''`)
	case instance.Failed:
		return set(`, status = 'failed', reason = $4`, ev.Reason)
	}
	return set(``) // GuestEnrolled, MachineMissed, MachineFound: nothing that a list shows
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
	sealed, err := pgx.CollectRows(rows, scanInstance)
	if err != nil {
		return nil, "", fmt.Errorf("list instances: %w", err)
	}
	list = make([]Instance, 0, len(sealed))
	for _, s := range sealed {
		i, err := r.openName(ctx, account, s)
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
	sealed, err := pgx.CollectExactlyOneRow(rows, scanInstance)
	if errors.Is(err, pgx.ErrNoRows) {
		return Instance{}, instance.ErrNotFound
	}
	if err != nil {
		return Instance{}, fmt.Errorf("find instance: %w", err)
	}
	i, err := r.openName(ctx, account, sealed)
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

func scanInstance(row pgx.CollectableRow) (i sealedInstance, err error) {
	err = row.Scan(&i.ID, &i.name, &i.Status, &i.Phase, &i.Detail, &i.Reason, &i.Type, &i.Region, &i.Address,
		&i.Machine, &i.CreatedAt, &i.UpdatedAt, &i.Position, &i.PhaseSince, &i.Versions)
	return i, err
}

func (r *Reader) openName(ctx context.Context, account string, s sealedInstance) (Instance, error) {
	name, err := r.Open(ctx, account, r.NameLabel(s.ID), s.name)
	if err != nil {
		return s.Instance, fmt.Errorf("open name of %s: %w", s.ID, err)
	}
	s.Name = string(name)
	return s.Instance, nil
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

// Overview is an instance as an operator sees it.
type Overview struct {
	ID      string
	Account string // "" where no row says it: its first event is parked
	Name    []byte // sealed
	Status  instance.Status
	Since   time.Time // since when it has this status
	Machine string    // the cloud's id, "" for none
	Reason  string
	Parked  bool // some of its events are set aside, so this may be old
}

// Overviews returns instances of all accounts, oldest first, those with an id above after; with all,
// also those that are over.
func (r *Reader) Overviews(ctx context.Context, after string, all bool, limit int) ([]Overview, error) {
	rows, err := r.Pool.Query(ctx, `WITH set_aside AS (SELECT DISTINCT substr(stream, 10) AS id FROM read.parked WHERE stream LIKE 'instance/%')
		SELECT coalesce(i.id, p.id), coalesce(i.account, ''), i.name, coalesce(i.status, ''),
			coalesce((SELECT max(h.time) FROM read.history h WHERE h.subject = 'instance/' || i.id AND h.type IN (
				'instance.requested', 'instance.machine_running', 'instance.stop_requested', 'instance.machine_stopped', 'instance.start_requested',
				'instance.termination_requested', 'instance.launch_abandoned', 'instance.terminated', 'instance.failed')), i.updated_at, now()),
			coalesce(i.machine, ''), coalesce(i.reason, ''), p.id IS NOT NULL
		FROM read.instances i FULL JOIN set_aside p ON p.id = i.id
		WHERE coalesce(i.id, p.id) > $1 AND ($2 OR coalesce(i.status, '') NOT IN ('terminated', 'failed'))
		ORDER BY 1 LIMIT $3`, after, all, limit)
	if err != nil {
		return nil, fmt.Errorf("list all instances: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Overview])
	if err != nil {
		return nil, fmt.Errorf("list all instances: %w", err)
	}
	return list, nil
}

// Owner returns whose instance it is, "" where no row says it.
func (r *Reader) Owner(ctx context.Context, id string) (account string, err error) {
	rows, err := r.Pool.Query(ctx, `SELECT account FROM read.instances WHERE id = $1`, id)
	if err != nil {
		return "", fmt.Errorf("find owner: %w", err)
	}
	if _, err = pgx.ForEachRow(rows, []any{&account}, func() error { return nil }); err != nil {
		return "", fmt.Errorf("find owner: %w", err)
	}
	return account, nil
}
