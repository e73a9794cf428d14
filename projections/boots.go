package projections

import (
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// The kinds of boots.
const (
	BootLaunch = "launch" // the first, of a new machine
	BootStart  = "start"  // of one that was stopped
)

// applyBoots keeps read.boots: when each boot that was asked for reached its phases. One that somebody
// stops on its way is over without being ready; one that nobody asked for has no time to count from.
func applyBoots(e eventstore.Event) ([]Statement, error) {
	if e.Stream.Aggregate != "instance" {
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

// reached notes when the instance's present boot first came to a phase: a later attempt, or a restart
// from within, goes through some again. Clocks jump; a duration is never negative.
func reached(e eventstore.Event, phase instance.Phase) []Statement {
	return sql(`UPDATE boots SET ready_at = CASE WHEN $3 = 'ready' THEN $2::timestamptz END, over = $3 = 'ready',
		reached = jsonb_build_object($3::text, greatest(0, round(extract(epoch FROM $2::timestamptz - started_at) * 1000)::bigint)) || reached
		WHERE instance = $1 AND NOT over`, e.Stream.ID, e.Time, string(phase))
}
