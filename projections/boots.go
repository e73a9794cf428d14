package projections

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// The kinds of boots.
const (
	BootLaunch = "launch" // the first, of a new machine
	BootStart  = "start"  // of a stopped machine
)

// applyBoots keeps read.boots: when each requested boot reached its phases. A boot that is stopped before it
// is ready is over without being ready. A boot without a request has no time to count from, and no row.
func applyBoots(e eventstore.Event) ([]Statement, error) {
	if e.Stream.Aggregate != instance.Codec.Aggregate() {
		return nil, nil
	}
	ev, err := decode(e)
	if err != nil {
		return nil, err
	}
	id := e.Stream.ID
	over := Statement{`UPDATE boots SET over = true WHERE instance = $1 AND NOT over`, []any{id}}
	switch ev := ev.(type) {
	case instance.Requested:
		return sql(`INSERT INTO boots (instance, began, type, kind, started_at) VALUES ($1, $2, $3, $4, $5)`,
			id, e.Position, ev.Type, BootLaunch, e.Time), nil
	case instance.StartRequested:
		return append([]Statement{over}, sql(`INSERT INTO boots (instance, began, type, kind, started_at)
			SELECT $1, $2, type, $3, $4 FROM boots WHERE instance = $1 ORDER BY began LIMIT 1`, id, e.Position, BootStart, e.Time)...), nil
	case instance.LaunchAttempted:
		return reached(e, instance.PhaseAllocating), nil
	case instance.MachineLaunched:
		return reached(e, instance.PhaseBooting), nil
	case instance.PhaseReached:
		return reached(e, ev.Phase), nil
	case instance.CallRefused:
		if ev.Call == instance.CallStart && ev.Verdict == instance.Never {
			return []Statement{over}, nil
		}
	case instance.StopRequested, instance.MachineStopped, instance.LaunchAbandoned, instance.TerminationRequested, instance.MachineGone, instance.Terminated:
		return []Statement{over}, nil
	}
	return nil, nil
}

// reached notes when the instance's current boot first reached a phase: a later attempt, or a restart from
// within, goes through some phases again. Clocks jump, but a duration is never negative.
func reached(e eventstore.Event, phase instance.Phase) []Statement {
	return sql(`UPDATE boots SET ready_at = CASE WHEN $3 = 'ready' THEN $2::timestamptz END, over = $3 = 'ready',
		reached = jsonb_build_object($3::text, greatest(0, round(extract(epoch FROM $2::timestamptz - started_at) * 1000)::bigint)) || reached
		WHERE instance = $1 AND NOT over`, e.Stream.ID, e.Time, string(phase))
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
