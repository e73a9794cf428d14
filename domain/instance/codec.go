package instance

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("instance",
	domain.As[Requested, Event]("instance.requested"),
	domain.As[TakenOver, Event]("instance.taken_over"),
	domain.As[Renamed, Event]("instance.renamed"),
	domain.As[LaunchAttempted, Event]("instance.launch_attempted"),
	domain.As[MachineLaunched, Event]("instance.machine_launched"),
	domain.As[CallRefused, Event]("instance.call_refused"),
	domain.As[CallAccepted, Event]("instance.call_accepted"),
	domain.As[LaunchAbandoned, Event]("instance.launch_abandoned"),
	domain.As[MachineRunning, Event]("instance.machine_running"),
	domain.As[AddressChanged, Event]("instance.address_changed"),
	domain.As[GuestEnrolled, Event]("instance.guest_enrolled"),
	domain.As[EnrolmentEnded, Event]("instance.enrolment_ended"),
	domain.As[EnrolmentReopened, Event]("instance.enrolment_reopened"),
	domain.As[PhaseReached, Event]("instance.phase_reached"),
	domain.As[VersionsReported, Event]("instance.versions_reported"),
	domain.As[BootStalled, Event]("instance.boot_stalled"),
	domain.As[StopRequested, Event]("instance.stop_requested"),
	domain.As[StartRequested, Event]("instance.start_requested"),
	domain.As[TerminationRequested, Event]("instance.termination_requested"),
	domain.As[MachineStopped, Event]("instance.machine_stopped"),
	domain.As[MachineMissed, Event]("instance.machine_missed"),
	domain.As[MachineFound, Event]("instance.machine_found"),
	domain.As[MachineGone, Event]("instance.machine_gone"),
	domain.As[Terminated, Event]("instance.terminated"),
	domain.As[Failed, Event]("instance.failed"),
)
