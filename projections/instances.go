package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// instanceRow is a row of read.instances: one per instance, terminated ones included. What the columns say
// of the state is instance.Evolve's own outcome. The state has only the fields that are columns, which
// suffices because none of them follows from a field that is not; a test compares rows with whole folds.
type instanceRow struct {
	id         string
	state      instance.State
	name       []byte // sealed
	detail     string
	reason     string
	createdAt  time.Time
	updatedAt  time.Time
	phaseSince time.Time
	position   int64
}

func foldInstances() *Fold {
	return &Fold{Aggregate: instance.Codec.Aggregate(), Load: loadInstances, Evolve: evolveInstance, Save: saveInstances}
}

// errRequestedBefore parks a second event that opens the stream of an instance.
var errRequestedBefore = errors.New("the instance was requested before")

func evolveInstance(row any, e *Event) (any, error) {
	ev, err := says[instance.Event](e)
	if err != nil {
		return nil, err
	}
	r, exists := row.(instanceRow)
	opens := openingEvent(ev)
	switch {
	case opens && exists:
		return nil, errRequestedBefore
	case opens:
		r = instanceRow{id: e.Stream.ID, createdAt: e.Time}
	case !exists: // the event that opens the stream is parked
		return nil, nil
	}
	before := r.state
	r.state = instance.Evolve(r.state, ev)
	r.updatedAt, r.position = e.Time, e.Position
	if r.state.Phase != before.Phase || beginsPhase(ev) {
		r.phaseSince = e.Time
	}
	r.describe(before, ev)
	if r.name == nil || e.mayHoldZero() && !r.storable() {
		return nil, errNotStorable
	}
	return r, nil
}

func openingEvent(e instance.Event) bool {
	switch e.(type) {
	case instance.Requested, instance.TakenOver:
		return true
	}
	return false
}

// errNotStorable parks an event whose row Postgres would refuse. Without it, a later event of the same batch could
// replace the value first: what is parked must not depend on the batches.
var errNotStorable = errors.New("it has no name, or a text with a zero byte")

func (r *instanceRow) storable() bool {
	s := &r.state
	for _, text := range [...]string{r.id, s.Account, string(s.Status), string(s.Phase), r.detail, r.reason, s.Type, s.Region, s.Address, s.Machine} {
		if strings.IndexByte(text, 0) >= 0 {
			return false
		}
	}
	for name, version := range s.Versions {
		if strings.IndexByte(name, 0) >= 0 || strings.IndexByte(version, 0) >= 0 {
			return false
		}
	}
	return true
}

// beginsPhase reports whether an event begins its phase again where the instance is in that phase already.
func beginsPhase(e instance.Event) bool {
	switch e.(type) {
	case instance.LaunchAttempted, instance.PhaseReached, instance.MachineStopped:
		return true
	}
	return false
}

// describe sets what a list shows of an event and no decision reads. A step forward removes the reason.
func (r *instanceRow) describe(before instance.State, e instance.Event) {
	switch e := e.(type) {
	case instance.Requested:
		r.name = e.Name
	case instance.TakenOver:
		r.name, r.createdAt = e.Name, e.CreatedAt
	case instance.Renamed:
		r.name = e.Name
	case instance.MachineLaunched, instance.CallAccepted, instance.MachineRunning, instance.StartRequested, instance.TerminationRequested:
		r.reason = ""
	case instance.CallRefused:
		r.reason = e.Reason
	case instance.LaunchAbandoned:
		r.reason = e.Reason
	case instance.BootStalled:
		r.reason = e.Reason
	case instance.Failed:
		r.reason = e.Reason
	case instance.PhaseReached:
		r.detail, r.reason = e.Detail, ""
	case instance.StopRequested:
		r.reason = either(e.Outside, "The machine is being stopped from outside the control plane.", "")
	case instance.MachineStopped:
		r.detail = ""
		if before.Status != instance.Terminating {
			r.reason = either(e.Asked, "", "The machine was stopped from outside the control plane; start it again.")
		}
	case instance.Terminated:
		r.reason = either(e.By == instance.ByOperator, "The operator of this server terminated the desktop.", "")
	}
	if r.reason == "" && r.state.Guestless() && !r.state.Final() {
		r.reason = noGuest
	}
}

// noGuest is the reason of an instance whose machine was taken over, while there is no other.
const noGuest = "This desktop comes from the original control plane and has no guest, so it has no screen and no chat here. " +
	"You can stop, start and terminate it. Create a new desktop to replace it."

func either(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

// instanceColumns are the columns of read.instances, in the order of scanInstance and saveInstances.
const instanceColumns = `id, account, name, status, phase, detail, reason, type, region, address, machine,
	created_at, updated_at, phase_since, position, versions`

func scanInstance(row pgx.CollectableRow) (r instanceRow, err error) {
	s := &r.state
	err = row.Scan(&r.id, &s.Account, &r.name, &s.Status, &s.Phase, &r.detail, &r.reason, &s.Type, &s.Region, &s.Address, &s.Machine,
		&r.createdAt, &r.updatedAt, &r.phaseSince, &r.position, &s.Versions)
	return r, err
}

func loadInstances(ctx context.Context, tx pgx.Tx, ids []string) (map[string]any, error) {
	rows, err := tx.Query(ctx, `SELECT `+instanceColumns+` FROM instances WHERE id = ANY ($1)`, ids)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, scanInstance)
	byID := make(map[string]any, len(ids))
	for _, r := range list {
		byID[r.id] = r
	}
	return byID, err
}

// saveInstances writes all rows by one statement: one array per column.
func saveInstances(rows []any) Statement {
	type r = instanceRow
	return Statement{`INSERT INTO instances (` + instanceColumns + `)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
			$10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::bigint[], $16::jsonb[])
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, status = excluded.status, phase = excluded.phase, detail = excluded.detail,
			reason = excluded.reason, address = excluded.address, machine = excluded.machine, updated_at = excluded.updated_at,
			phase_since = excluded.phase_since, position = excluded.position, versions = excluded.versions`,
		[]any{
			column(rows, func(r r) string { return r.id }),
			column(rows, func(r r) string { return r.state.Account }),
			column(rows, func(r r) []byte { return r.name }),
			column(rows, func(r r) string { return string(r.state.Status) }),
			column(rows, func(r r) string { return string(r.state.Phase) }),
			column(rows, func(r r) string { return r.detail }),
			column(rows, func(r r) string { return r.reason }),
			column(rows, func(r r) string { return r.state.Type }),
			column(rows, func(r r) string { return r.state.Region }),
			column(rows, func(r r) string { return r.state.Address }),
			column(rows, func(r r) string { return r.state.Machine }),
			column(rows, func(r r) time.Time { return r.createdAt }),
			column(rows, func(r r) time.Time { return r.updatedAt }),
			column(rows, func(r r) time.Time { return r.phaseSince }),
			column(rows, func(r r) int64 { return r.position }),
			column(rows, func(r r) string { return versionsJSON(r.state.Versions) }),
		}}
}

func versionsJSON(versions map[string]string) string {
	if len(versions) == 0 {
		return "{}"
	}
	text, _ := json.Marshal(versions) // a map of strings always marshals
	return string(text)
}

// Instance is a desktop as its owner sees it.
type Instance struct {
	ID         string
	Name       string
	Status     instance.Status
	Phase      instance.Phase
	Detail     string // what the guest reported about the phase
	Reason     string // why it has this status, a sentence; "" while all is well
	Type       string
	Region     string
	Address    string // public, "" for none
	Machine    string // the cloud's id, "" for none
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Position   int64             // of the event that last changed it
	PhaseSince time.Time         // when the current phase began
	Versions   map[string]string // what the machine runs, by name
	Idle       Idle
}

// Ready reports whether desktop and agent can be used.
func (i Instance) Ready() bool { return i.Status == instance.Running && i.Phase == instance.PhaseReady }

// final reports whether it does not count against a quota any more.
func (i *Instance) final() bool {
	return i.Status == instance.StatusTerminated || i.Status == instance.StatusFailed
}

// Percent returns how far the boot is, 0 to 100.
func (i Instance) Percent() int {
	return max(0, i.Phase.Rank()) * 100 / (len(instance.Phases) - 1)
}

// InstancesOf returns those of the instances that are the account's, by their ids, also terminated ones. They have no Idle.
func (r *Reader) InstancesOf(ctx context.Context, account string, ids []string) ([]Instance, error) {
	rows, err := r.Pool.Query(ctx, `SELECT `+instanceColumns+` FROM read.instances WHERE account = $1 AND id = ANY ($2) ORDER BY id`, account, ids)
	if err != nil {
		return nil, fmt.Errorf("find instances: %w", err)
	}
	sealed, err := pgx.CollectRows(rows, scanInstance)
	if err != nil {
		return nil, fmt.Errorf("find instances: %w", err)
	}
	list := make([]Instance, len(sealed))
	for n, s := range sealed {
		if list[n], err = r.open(ctx, s); err != nil {
			return nil, fmt.Errorf("find instances: %w", err)
		}
	}
	return list, nil
}

// open makes an Instance of a row. It is called once the rows' connection was given back: the vault may
// need one for the key, and a call that holds one connection while it waits for another can lock up the pool.
func (r *Reader) open(ctx context.Context, row instanceRow) (Instance, error) {
	name, err := r.Open(ctx, row.state.Account, r.NameLabel(row.id), row.name)
	if err != nil {
		return Instance{}, fmt.Errorf("open name of %s: %w", row.id, err)
	}
	s := row.state
	return Instance{
		ID: row.id, Name: string(name), Status: s.Status, Phase: s.Phase, Detail: row.detail, Reason: row.reason, Type: s.Type, Region: s.Region,
		Address: s.Address, Machine: s.Machine, CreatedAt: row.createdAt, UpdatedAt: row.updatedAt, Position: row.position,
		PhaseSince: row.phaseSince, Versions: s.Versions,
	}, nil
}

// Live returns the ids of all instances that are not final, and the position that the list stands for. The
// saga starts from it.
func (r *Reader) Live(ctx context.Context) (ids []string, position int64, err error) {
	err = pgx.BeginTxFunc(ctx, r.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// The snapshot must be younger than the table. Without the lock, a rebuild could switch tables in
		// between, and the snapshot would not see the new table's last rows.
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

// instanceStream is the name of an instance's stream, which is also its entries' subject in the history.
func instanceStream(id string) string {
	return eventstore.StreamID{Aggregate: instance.Codec.Aggregate(), ID: id}.String()
}
