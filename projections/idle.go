package projections

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// idleRow is a row of read.idle: one per instance. Like instanceRow it has the part of the state that its columns hold.
type idleRow struct {
	id       string
	state    instance.State
	stopped  instance.StopRequested // the latest, while it counts
	position int64
}

// idleFacts are what the column facts holds of a row.
type idleFacts struct {
	Region   string               `json:"region,omitempty"`
	Policy   *idle.Policy         `json:"policy,omitempty"`
	Warned   *instance.IdleWarned `json:"warned,omitempty"`
	Asked    time.Time            `json:"asked,omitzero"`
	Extended time.Time            `json:"extended,omitzero"`
	Cause    instance.Cause       `json:"cause,omitempty"`
	Why      string               `json:"why,omitempty"`
	Jobs     idle.Jobs            `json:"jobs,omitempty"`
	NextJob  time.Time            `json:"next_job,omitzero"`
}

func foldIdle() *Fold {
	return &Fold{Aggregate: instance.Codec.Aggregate(), Load: loadIdle, Evolve: evolveIdle, Save: saveIdle}
}

func evolveIdle(row any, e *Event) (any, error) {
	ev, err := says[instance.Event](e)
	if err != nil {
		return nil, err
	}
	r, exists := row.(idleRow)
	switch opens := openingEvent(ev); {
	case opens && exists:
		return nil, errRequestedBefore
	case opens:
		r = idleRow{id: e.Stream.ID}
	case !exists: // the event that opens the stream is parked
		return nil, nil
	}
	r.state = instance.Evolve(r.state, ev)
	switch ev := ev.(type) {
	case instance.StopRequested:
		r.stopped = ev
	case instance.StartRequested, instance.MachineRunning:
		r.stopped = instance.StopRequested{}
	}
	r.position = e.Position
	if !e.mayHoldZero() {
		return r, nil
	}
	if texts := r.id + r.state.Account + r.state.Type + r.factsJSON(); strings.IndexByte(texts, 0) >= 0 || strings.Contains(texts, `\u0000`) {
		return nil, errNotStorable
	}
	return r, nil
}

func (r idleRow) factsJSON() string {
	text, _ := json.Marshal(idleFacts{ // a struct of texts, numbers and times always marshals
		Region: r.state.Region,
		Policy: r.state.Idle, Warned: r.state.Warned, Asked: r.state.Asked, Extended: r.state.Extended,
		Cause: r.stopped.Cause, Why: r.stopped.Why, Jobs: r.stopped.Jobs, NextJob: r.stopped.NextJob,
	})
	return string(text)
}

const idleColumns = `id, account, type, status, running, run_at, wake_at, facts, position`

func scanIdle(row pgx.CollectableRow) (r idleRow, err error) {
	s := &r.state
	var run, wake *time.Time
	var facts idleFacts
	err = row.Scan(&r.id, &s.Account, &s.Type, &s.Status, &s.Running, &run, &wake, &facts, &r.position)
	facts.tell(s, orZero(run), orZero(wake))
	r.stopped = instance.StopRequested{Cause: facts.Cause, Why: facts.Why, Jobs: facts.Jobs, NextJob: facts.NextJob}
	return r, err
}

// tell fills in what the facts and times of a row say of the state.
func (f idleFacts) tell(s *instance.State, run, wake time.Time) {
	s.RunAt, s.WakeAt = run.UTC(), wake.UTC()
	s.Region, s.Idle, s.Warned, s.Asked, s.Extended = f.Region, f.Policy, f.Warned, f.Asked, f.Extended
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func loadIdle(ctx context.Context, tx pgx.Tx, ids []string) (map[string]any, error) {
	rows, err := tx.Query(ctx, `SELECT `+idleColumns+` FROM idle WHERE id = ANY ($1)`, ids)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, scanIdle)
	byID := make(map[string]any, len(ids))
	for _, r := range list {
		byID[r.id] = r
	}
	return byID, err
}

func saveIdle(rows []any) Statement {
	type r = idleRow
	return Statement{`INSERT INTO idle (` + idleColumns + `)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::timestamptz[], $7::timestamptz[], $8::jsonb[], $9::bigint[])
		ON CONFLICT (id) DO UPDATE SET account = excluded.account, status = excluded.status, running = excluded.running, run_at = excluded.run_at,
			wake_at = excluded.wake_at, facts = excluded.facts, position = excluded.position`,
		[]any{
			column(rows, func(r r) string { return r.id }),
			column(rows, func(r r) string { return r.state.Account }),
			column(rows, func(r r) string { return r.state.Type }),
			column(rows, func(r r) string { return string(r.state.Status) }),
			column(rows, func(r r) bool { return r.state.Running }),
			column(rows, func(r r) *time.Time { return orNull(r.state.RunAt) }),
			column(rows, func(r r) *time.Time { return orNull(r.state.WakeAt) }),
			column(rows, func(r r) string { return r.factsJSON() }),
			column(rows, func(r r) int64 { return r.position }),
		}}
}

// Idle is what the log says about a desktop's idle stop.
type Idle struct {
	// State has only the fields that belong to it: those that commands.UseOf reads, the policy, and WakeAt.
	State instance.State

	// The control plane's latest stop, until the desktop is started; zero: its user stopped it, or it runs.
	Cause   instance.Cause
	Why     string // a sentence
	Jobs    idle.Jobs
	NextJob time.Time // of the agent's schedule, when it was stopped; zero: none was known
}
