package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// The kinds of boots.
const (
	BootLaunch = "launch" // the first, of a new machine
	BootStart  = "start"  // of a stopped machine
)

// bootsRow are the boots of an instance, as far as its next event can change them: when each requested boot reached its phases. A
// boot that is stopped before it is ready is over without being ready. A boot without a request has no time to count from, and no row.
type bootsRow struct {
	typ     string // of the machine; "": no boot was requested yet
	known   bool   // a boot was requested
	current *boot  // nil: none is going on
	changed []boot // since they were loaded, beside the current one
}

// boot is a row of read.boots.
type boot struct {
	instance, typ, kind string
	began               int64 // position of the event that asked for it
	startedAt           time.Time
	reached             map[instance.Phase]int64 // in milliseconds
	readyAt             *time.Time
	over                bool
}

func foldBoots() *Fold {
	return &Fold{Aggregate: instance.Codec.Aggregate(), Load: loadBoots, Evolve: evolveBoots, Save: saveBoots, Grows: true}
}

// errBooting parks an event that requests an instance whose boot goes on.
var errBooting = errors.New("the instance is booting already")

func evolveBoots(row any, e *Event) (any, error) {
	ev, err := says[instance.Event](e)
	if err != nil {
		return nil, err
	}
	r, _ := row.(bootsRow)
	switch ev := ev.(type) {
	case instance.Requested:
		if r.current != nil {
			return nil, errBooting
		}
		if e.mayHoldZero() && strings.IndexByte(e.Stream.ID+ev.Type, 0) >= 0 {
			return nil, errNotStorable
		}
		if !r.known {
			r.typ, r.known = ev.Type, true
		}
		r.current = &boot{instance: e.Stream.ID, typ: ev.Type, kind: BootLaunch, began: e.Position, startedAt: e.Time}
		return r, nil
	case instance.StartRequested:
		r = r.over()
		if !r.known {
			return nil, nil
		}
		r.current = &boot{instance: e.Stream.ID, typ: r.typ, kind: BootStart, began: e.Position, startedAt: e.Time}
		return r, nil
	case instance.LaunchAttempted:
		return r.reach(e, instance.PhaseAllocating)
	case instance.MachineLaunched:
		return r.reach(e, instance.PhaseBooting)
	case instance.PhaseReached:
		return r.reach(e, ev.Phase)
	case instance.CallRefused:
		if ev.Call != instance.CallStart || ev.Verdict != instance.Never {
			return nil, nil
		}
	case instance.StopRequested, instance.MachineStopped, instance.LaunchAbandoned, instance.TerminationRequested, instance.MachineGone, instance.Terminated:
	default:
		return nil, nil
	}
	if r.current == nil {
		return nil, nil
	}
	return r.over(), nil
}

// over ends the current boot.
func (r bootsRow) over() bootsRow {
	if r.current != nil {
		b := *r.current
		b.over = true
		r.changed, r.current = append(slices.Clone(r.changed), b), nil
	}
	return r
}

// reach notes when the current boot first reached a phase: a later attempt, or a restart from within, goes through some phases
// again. Clocks jump, but a duration is never negative.
func (r bootsRow) reach(e *Event, phase instance.Phase) (any, error) {
	if r.current == nil {
		return nil, nil
	}
	if e.mayHoldZero() && strings.IndexByte(string(phase), 0) >= 0 {
		return nil, errNotStorable
	}
	b := *r.current
	if _, before := b.reached[phase]; !before {
		b.reached = maps.Clone(b.reached)
		if b.reached == nil {
			b.reached = map[instance.Phase]int64{}
		}
		b.reached[phase] = max(0, e.Time.Sub(b.startedAt).Round(time.Millisecond).Milliseconds())
	}
	r.current = &b
	if phase == instance.PhaseReady {
		b.readyAt = e.at()
		r = r.over()
	}
	return r, nil
}

func loadBoots(ctx context.Context, tx pgx.Tx, ids []string) (map[string]any, error) {
	rows, err := tx.Query(ctx, `SELECT i.id, first.type, current.type, current.kind, current.began, current.started_at, current.reached
		FROM unnest($1::text[]) AS i (id)
		CROSS JOIN LATERAL (SELECT type FROM boots WHERE instance = i.id ORDER BY began LIMIT 1) AS first
		LEFT JOIN boots AS current ON current.instance = i.id AND NOT current.over`, ids)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]any, len(ids))
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (id string, err error) {
		r, b := bootsRow{known: true}, boot{}
		var typ, kind *string
		var began *int64
		var at *time.Time
		if err := row.Scan(&id, &r.typ, &typ, &kind, &began, &at, &b.reached); err != nil {
			return id, err
		}
		if began != nil {
			b.instance, b.typ, b.kind, b.began, b.startedAt = id, *typ, *kind, *began, *at
			r.current = &b
		}
		byID[id] = r
		return id, nil
	})
	return byID, err
}

// saveBoots writes the boots that changed, by one statement. Those that are over come first: an instance has one that is not.
func saveBoots(rows []any) Statement {
	var over, current []any
	for _, row := range rows {
		r := row.(bootsRow)
		for _, b := range r.changed {
			over = append(over, b)
		}
		if r.current != nil {
			current = append(current, *r.current)
		}
	}
	list := append(over, current...)
	return Statement{`INSERT INTO boots (instance, began, type, kind, started_at, reached, ready_at, over)
		SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::jsonb[], $7::timestamptz[], $8::boolean[])
		ON CONFLICT (instance, began) DO UPDATE SET reached = excluded.reached, ready_at = excluded.ready_at, over = excluded.over`,
		[]any{
			column(list, func(b boot) string { return b.instance }),
			column(list, func(b boot) int64 { return b.began }),
			column(list, func(b boot) string { return b.typ }),
			column(list, func(b boot) string { return b.kind }),
			column(list, func(b boot) time.Time { return b.startedAt }),
			column(list, func(b boot) string { return reachedJSON(b.reached) }),
			column(list, func(b boot) *time.Time { return b.readyAt }),
			column(list, func(b boot) bool { return b.over }),
		}}
}

func reachedJSON(reached map[instance.Phase]int64) string {
	if len(reached) == 0 {
		return "{}"
	}
	text, _ := json.Marshal(reached) // a map of texts to numbers always marshals
	return string(text)
}

// Spread says how long something takes, in milliseconds: P50 is the median, and one time in twenty takes
// longer than P95.
type Spread struct{ P50, P95 int64 }

// PhaseTime is the time from a boot's request to a phase.
type PhaseTime struct {
	Phase instance.Phase
	Spread
}

// FewestBoots is how many boots a time is given for: fewer say little about the next one.
const FewestBoots = 5

// BootTimes says how long boots of a kind take.
type BootTimes struct {
	Samples int         // boots that were counted
	Phases  []PhaseTime // in order, without those that fewer than FewestBoots have reached; ready is the last
}

// latestBoots is how many boots of a kind BootTimes looks at.
const latestBoots = 200

// BootTimes returns by kind how long the latest boots of a machine type took, "" for any type, over
// all accounts: nothing but numbers.
func (r *Reader) BootTimes(ctx context.Context, machineType string) (map[string]BootTimes, error) {
	// The condition is left out for any type. No index fits "or any", so a type without boots would be looked
	// for in all boots there ever were.
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
		if samples >= FewestBoots {
			t.Phases = append(t.Phases, p)
		}
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
