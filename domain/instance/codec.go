package instance

import (
	"encoding/json"
	"fmt"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Encode gives an event its wire name, the schema of its data, and its data as JSON.
func Encode(e Event) (name string, schema int, data []byte, err error) {
	switch e.(type) {
	case Requested:
		name = "instance.requested"
	case Renamed:
		name = "instance.renamed"
	case LaunchAttempted:
		name = "instance.launch_attempted"
	case MachineLaunched:
		name = "instance.machine_launched"
	case CallRefused:
		name = "instance.call_refused"
	case CallAccepted:
		name = "instance.call_accepted"
	case LaunchAbandoned:
		name = "instance.launch_abandoned"
	case MachineRunning:
		name = "instance.machine_running"
	case AddressChanged:
		name = "instance.address_changed"
	case GuestEnrolled:
		name = "instance.guest_enrolled"
	case PhaseReached:
		name = "instance.phase_reached"
	case VersionsReported:
		name = "instance.versions_reported"
	case BootStalled:
		name = "instance.boot_stalled"
	case StopRequested:
		name = "instance.stop_requested"
	case StartRequested:
		name = "instance.start_requested"
	case TerminationRequested:
		name = "instance.termination_requested"
	case MachineStopped:
		name = "instance.machine_stopped"
	case MachineMissed:
		name = "instance.machine_missed"
	case MachineFound:
		name = "instance.machine_found"
	case MachineGone:
		name = "instance.machine_gone"
	case Terminated:
		name = "instance.terminated"
	case Failed:
		name = "instance.failed"
	default:
		return "", 0, nil, fmt.Errorf("encode %T: not an instance event", e)
	}
	data, err = json.Marshal(e)
	return name, 1, data, err
}

// Decode is the inverse of Encode. An unknown name or schema is an error: nothing is skipped silently.
func Decode(name string, schema int, data []byte) (Event, error) {
	if schema != 1 {
		return nil, fmt.Errorf("decode %s: unknown schema %d", name, schema)
	}
	switch name {
	case "instance.requested":
		return domain.Unmarshal[Requested](data)
	case "instance.renamed":
		return domain.Unmarshal[Renamed](data)
	case "instance.launch_attempted":
		return domain.Unmarshal[LaunchAttempted](data)
	case "instance.machine_launched":
		return domain.Unmarshal[MachineLaunched](data)
	case "instance.call_refused":
		return domain.Unmarshal[CallRefused](data)
	case "instance.call_accepted":
		return domain.Unmarshal[CallAccepted](data)
	case "instance.launch_abandoned":
		return domain.Unmarshal[LaunchAbandoned](data)
	case "instance.machine_running":
		return domain.Unmarshal[MachineRunning](data)
	case "instance.address_changed":
		return domain.Unmarshal[AddressChanged](data)
	case "instance.guest_enrolled":
		return domain.Unmarshal[GuestEnrolled](data)
	case "instance.phase_reached":
		return domain.Unmarshal[PhaseReached](data)
	case "instance.versions_reported":
		return domain.Unmarshal[VersionsReported](data)
	case "instance.boot_stalled":
		return domain.Unmarshal[BootStalled](data)
	case "instance.stop_requested":
		return domain.Unmarshal[StopRequested](data)
	case "instance.start_requested":
		return domain.Unmarshal[StartRequested](data)
	case "instance.termination_requested":
		return domain.Unmarshal[TerminationRequested](data)
	case "instance.machine_stopped":
		return domain.Unmarshal[MachineStopped](data)
	case "instance.machine_missed":
		return domain.Unmarshal[MachineMissed](data)
	case "instance.machine_found":
		return domain.Unmarshal[MachineFound](data)
	case "instance.machine_gone":
		return domain.Unmarshal[MachineGone](data)
	case "instance.terminated":
		return domain.Unmarshal[Terminated](data)
	case "instance.failed":
		return domain.Unmarshal[Failed](data)
	}
	return nil, fmt.Errorf("decode %s: not an instance event", name)
}
