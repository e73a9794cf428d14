package instance

import (
	"bytes"
	"maps"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// Refusals.
var (
	ErrNotFound      = &domain.Error{Kind: domain.NotFound, Code: "instance_not_found", Msg: "There is no such desktop."}
	ErrExists        = &domain.Error{Kind: domain.Conflict, Code: "instance_exists", Msg: "This desktop already exists."}
	ErrGone          = &domain.Error{Kind: domain.Conflict, Code: "instance_gone", Msg: "This desktop is terminated or terminating; create a new one."}
	ErrStillStarting = &domain.Error{Kind: domain.Conflict, Code: "instance_not_running", Msg: "The desktop is still starting; wait until it is running, or terminate it."}
	ErrStillStopping = &domain.Error{Kind: domain.Conflict, Code: "instance_stopping", Msg: "The desktop is still stopping; start it again once it has stopped."}
	ErrEnrolment     = &domain.Error{Kind: domain.Forbidden, Code: "enrolment_refused", Msg: "This enrolment token has been used, has expired, or is for another machine."}
	ErrPhases        = &domain.Error{Kind: domain.Exhausted, Code: "too_many_phases", Msg: "This machine has restarted too often; its reports are accepted again in a few minutes."}
	ErrSuperseded    = &domain.Error{Kind: domain.Conflict, Code: "launch_superseded", Msg: "This launch has been superseded by a later one."}
)

const (
	// EnrolWithin is how long after a launch, or after an open attempt, the enrolment token is valid.
	EnrolWithin = 30 * time.Minute
	// MissingGrace is how long after a launch the cloud may not list its new machine yet.
	MissingGrace = 5 * time.Minute
	// MissingFor is how long a machine must be missing without interruption before it is given up, unless it was being
	// terminated. According to EC2, an unknown id does not prove that a machine is gone.
	MissingFor = 30 * time.Minute
	// StartLag is how long after a start the cloud may still report the machine stopped.
	StartLag = time.Minute
	// MaxUndone is how many starts in a row the cloud may accept and undo.
	MaxUndone = 3
	// MaxReports of versions are accepted from a machine within ReportsWithin. They are counted by time and not by
	// boot: a broken or hostile machine can invent any number of boots.
	MaxReports    = 8
	ReportsWithin = time.Hour
	// MaxPhases are accepted from a machine in a burst, and one more each PhaseEvery: eight boots in a row, then three
	// to four an hour. ReadyPhases more are only for PhaseReady, so that a usable desktop is shown as ready.
	MaxPhases   = 40
	ReadyPhases = 20
	PhaseEvery  = 2 * time.Minute
	// DoubtFor is how long after a launch call with an unknown outcome no refusal ends its attempt. The cloud accepts
	// no request that was signed five minutes ago, and lists what it made MissingGrace later.
	DoubtFor = 5*time.Minute + MissingGrace
	// maxPhaseDebt is the largest PhaseDebt.
	maxPhaseDebt = (MaxPhases + ReadyPhases) * PhaseEvery
	// doubtStep is the wait between two calls within DoubtFor.
	doubtStep = 2 * time.Minute
)

// Command is a request or an observation. Its implementations are in this file.
type Command interface{ command() }

// Seen is a machine's state as the cloud reports it.
type Seen string

const (
	SeenPending  Seen = "pending" // between two states; also shutting down
	SeenRunning  Seen = "running"
	SeenStopping Seen = "stopping"
	SeenStopped  Seen = "stopped"
	SeenGone     Seen = "terminated"
	SeenMissing  Seen = "missing" // the cloud does not list it
)

type (
	// Request, Rename, Stop, Start and Terminate are sent by the user.
	Request struct {
		Account string
		Name    []byte // sealed
		Type    string
		Region  string
	}
	// TakeOver opens an instance for a machine that another control plane launched. An operator sends it.
	TakeOver  TakenOver
	Rename    struct{ Name []byte }
	Stop      struct{ At time.Time }
	Start     struct{ At time.Time }
	Terminate struct{ At time.Time }
	// Extend asks for more time before the desktop stops by itself, and SetIdlePolicy sets its policy, which the caller
	// has checked.
	Extend        IdleExtended
	SetIdlePolicy IdlePolicySet

	// Warn, Withdraw, StopBecause and StartBecause are decisions of the control plane.
	Warn        IdleWarned
	Withdraw    IdleWithdrawn
	StopBecause struct {
		At      time.Time
		Cause   Cause
		Why     string
		WakeAt  time.Time
		Jobs    idle.Jobs
		NextJob time.Time
	}
	StartBecause StartRequested

	// Attempt freezes the next launch request. The saga sends it and the others down to Conclude.
	Attempt struct {
		At     time.Time
		Spec   Spec
		Number int // the attempt that it was frozen for; 0: the next one
	}
	// Launched reports the outcome of an attempt.
	Launched struct {
		Attempt int
		Machine string
		At      time.Time
	}
	// Accept reports that the cloud accepted a call.
	Accept struct {
		Call Call
		At   time.Time
	}
	// Refuse reports that a call returned an error.
	Refuse struct {
		Call    Call
		Attempt int // of a launch
		Verdict Verdict
		Code    string
		Reason  string
		RetryAt time.Time
		At      time.Time
		Unsure  bool // of a launch: it may have taken effect, or may do so later
	}
	// Resume reports that a saga continues an attempt for which another one may have made, or still make, the call.
	Resume struct {
		Attempt int
		At      time.Time
	}
	// Abandon gives the launch up.
	Abandon struct{ Code, Reason string }
	// Stall notes that the boot is overdue.
	Stall struct{ Reason string }
	// Conclude ends an instance without a machine.
	Conclude struct{}

	// Observe reports the state of a machine in the cloud.
	Observe struct {
		Machine string
		Seen    Seen
		Address string
		Reason  string // why it is gone or stopped, a sentence; "": unknown
		At      time.Time
		Sure    bool // an operator confirms that a missing machine is gone

		Launched time.Time // when the cloud began its latest launch or start; zero: unknown
		Ended    time.Time // when it left its running state, by the cloud's clock; zero: unknown
		// MissedSince is since when each look of this process has missed the machine; zero: it does not know. Two looks that
		// miss it, with none between, are no proof.
		MissedSince time.Time
		RanUntil    time.Time // the last look that showed it running; zero: unknown
		Existed     time.Time // the last look that showed it at all; zero: unknown
	}
	// Enroll, ReachPhase and ReportVersions are sent by the guest.
	Enroll struct {
		Attempt   int
		PublicKey []byte
		At        time.Time
	}
	ReachPhase struct {
		Boot   string
		Phase  Phase
		Detail string
		At     time.Time
	}
	ReportVersions struct {
		Boot     string
		Versions map[string]string
		At       time.Time
	}
	ReportModelCost struct {
		Meter string
		Total int64 // micro-dollars
		At    time.Time
	}
)

func (Request) command()         {}
func (TakeOver) command()        {}
func (Rename) command()          {}
func (Stop) command()            {}
func (Start) command()           {}
func (Terminate) command()       {}
func (Attempt) command()         {}
func (Launched) command()        {}
func (Accept) command()          {}
func (Refuse) command()          {}
func (Resume) command()          {}
func (Abandon) command()         {}
func (Stall) command()           {}
func (Conclude) command()        {}
func (Observe) command()         {}
func (Enroll) command()          {}
func (ReachPhase) command()      {}
func (ReportVersions) command()  {}
func (Extend) command()          {}
func (SetIdlePolicy) command()   {}
func (Warn) command()            {}
func (Withdraw) command()        {}
func (StopBecause) command()     {}
func (StartBecause) command()    {}
func (ReportModelCost) command() {}

// Decide returns the events of c in state s. None without an error: nothing changes.
func Decide(s State, c Command) ([]Event, error) {
	var opens Event
	switch c := c.(type) {
	case Request:
		opens = Requested(c)
	case TakeOver:
		opens = TakenOver(c)
	}
	if a, ok := c.(Adopt); ok {
		return decideAdopt(s, a)
	}
	switch {
	case opens != nil && s.Exists():
		return nil, ErrExists
	case opens != nil:
		return []Event{opens}, nil
	case !s.Exists():
		return nil, ErrNotFound
	}
	switch c := c.(type) {
	case Rename:
		if s.Status == StatusTerminated {
			return nil, ErrGone
		}
		return []Event{Renamed(c)}, nil
	case Stop:
		return decideStop(s, c)
	case Start:
		return decideStart(s, c)
	case Terminate:
		return decideTerminate(s, c)
	case Attempt:
		if s.Status != Launching || s.Open || s.Machine != "" || c.Number != 0 && c.Number != s.Attempts+1 {
			return nil, nil
		}
		return []Event{LaunchAttempted{Attempt: s.Attempts + 1, At: c.At, Spec: c.Spec}}, nil
	case Launched:
		switch {
		case c.Attempt == s.Attempts && s.Open:
			return []Event{MachineLaunched(c)}, nil
		case c.Attempt == s.Attempts && s.Machine == c.Machine:
			return nil, nil
		}
		return nil, ErrSuperseded
	case Accept:
		if due(s) != c.Call || !s.Called.IsZero() && !c.At.After(s.Called) {
			return nil, nil
		}
		return []Event{CallAccepted(c)}, nil
	case Refuse:
		return decideRefuse(s, c)
	case Resume:
		if !s.Open || c.Attempt != s.Attempts || c.At.Equal(s.Unsure) {
			return nil, nil
		}
		return []Event{CallRefused{
			Call: CallLaunch, Attempt: c.Attempt, Tries: s.Tries, Verdict: Again, Code: CodeInterrupted, RetryAt: c.At, Unsure: c.At,
			Reason: "The control plane was interrupted while it requested the machine; retrying.",
		}}, nil
	case Abandon:
		if s.Status != Launching {
			return nil, nil
		}
		return []Event{LaunchAbandoned(c)}, nil
	case Stall:
		if s.Status != Running || s.Phase == PhaseReady || s.Stalled {
			return nil, nil
		}
		return []Event{BootStalled{Phase: s.Phase, Reason: c.Reason}}, nil
	case Conclude:
		if s.Status != Terminating || s.Open || s.Machine != "" {
			return nil, nil
		}
		return []Event{ending(s)}, nil
	case Observe:
		return decideObserve(s, c), nil
	case Enroll:
		return decideEnroll(s, c)
	case EndEnrolment:
		if !s.Awaits() || s.NoEnrol == s.Attempts {
			return nil, nil
		}
		return []Event{EnrolmentEnded{Attempt: s.Attempts}}, nil
	case ReachPhase:
		return decidePhase(s, c)
	case ReportVersions:
		return decideVersions(s, c), nil
	case ReportModelCost, Extend, SetIdlePolicy, Warn, Withdraw, StopBecause, StartBecause:
		return decideUse(s, c)
	}
	return nil, &domain.Error{Kind: domain.Invalid, Code: "unknown_command", Msg: "Unknown instance command."}
}

func decideStop(s State, c Stop) ([]Event, error) {
	switch s.Status {
	case Stopping, Stopped:
		return nil, nil
	case Launching, Starting:
		return nil, ErrStillStarting
	case Running:
		return []Event{StopRequested{At: c.At}}, nil
	}
	return nil, ErrGone
}

func decideStart(s State, c Start) ([]Event, error) {
	switch s.Status {
	case Launching, Starting, Running:
		return nil, nil
	case Stopping:
		return nil, ErrStillStopping
	case Stopped:
		return []Event{StartRequested{At: c.At}}, nil
	}
	return nil, ErrGone
}

func decideTerminate(s State, c Terminate) ([]Event, error) {
	switch s.Status {
	case Terminating, StatusTerminated:
		return nil, nil
	}
	if s.Machine == "" && !s.Open {
		return []Event{TerminationRequested(c), Terminated{}}, nil
	}
	return []Event{TerminationRequested(c)}, nil
}

func decideRefuse(s State, c Refuse) ([]Event, error) {
	if due(s) != c.Call {
		return nil, nil
	}
	if c.Call == CallLaunch && c.Attempt != s.Attempts {
		return nil, ErrSuperseded
	}
	if doubt := s.Unsure.Add(DoubtFor); c.Call == CallLaunch && c.Verdict != Again && !s.Unsure.IsZero() && c.At.Before(doubt) {
		c.Verdict, c.RetryAt = Again, domain.Earlier(doubt, domain.Later(c.RetryAt, c.At.Add(doubtStep)))
	}
	refused := CallRefused{
		Call: c.Call, Attempt: c.Attempt, Tries: s.Tries + 1,
		Verdict: c.Verdict, Code: c.Code, Reason: c.Reason, RetryAt: c.RetryAt,
	}
	if c.Call == CallLaunch && c.Unsure {
		refused.Unsure = c.At
	}
	if c.Call == CallLaunch && c.Verdict == Never && s.Status == Launching {
		return []Event{refused, LaunchAbandoned{Code: c.Code, Reason: c.Reason}}, nil
	}
	return []Event{refused}, nil
}

// due returns the call that the state waits for, or "".
func due(s State) Call {
	switch {
	case s.Open:
		return CallLaunch
	case s.Status == Starting:
		return CallStart
	case s.Status == Stopping:
		return CallStop
	case s.Status == Terminating && s.Machine != "":
		return CallTerminate
	}
	return ""
}

// Codes of a CallRefused that come from the control plane, not from the cloud.
const (
	CodeInterrupted = "interrupted"
	CodeCancelled   = "cancelled"
)

func decideEnroll(s State, c Enroll) ([]Event, error) {
	switch {
	case s.Final() || c.Attempt != s.Attempts || c.Attempt == s.NoEnrol || !s.Open && s.Machine == "":
		return nil, ErrEnrolment
	case s.Enrolled == c.Attempt && bytes.Equal(s.PublicKey, c.PublicKey):
		return nil, nil
	case s.Enrolled == c.Attempt || c.At.Sub(s.launch()) > EnrolWithin:
		return nil, ErrEnrolment
	}
	return []Event{GuestEnrolled{Attempt: c.Attempt, PublicKey: c.PublicKey}}, nil
}

func decidePhase(s State, c ReachPhase) ([]Event, error) {
	if !s.Up() || c.Phase.Rank() < PhaseBooting.Rank() || c.Boot == s.Boot && c.Phase.Rank() <= s.Phase.Rank() {
		return nil, nil
	}
	room := MaxPhases
	if c.Phase == PhaseReady {
		room += ReadyPhases
	}
	// An impossible debt means that the clock went back.
	if debt := s.PhaseDebt.Sub(c.At); debt > time.Duration(room-1)*PhaseEvery && debt <= 2*maxPhaseDebt {
		return nil, ErrPhases
	}
	return []Event{PhaseReached(c)}, nil
}

func decideVersions(s State, c ReportVersions) []Event {
	full := s.Reports >= MaxReports && c.At.Sub(s.ReportsSince) < ReportsWithin
	if !s.Up() || full || len(c.Versions) == 0 || maps.Equal(c.Versions, s.Versions) {
		return nil
	}
	return []Event{VersionsReported(c)}
}
