package projections

import (
	"encoding/json"

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
