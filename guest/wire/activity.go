package wire

import "time"

// ActivityEvery is how often a guest reports the desktop's use. Use that resumes after this time is reported immediately.
const ActivityEvery = 15 * time.Second

// Activity says how long ago the desktop was used, in each way. It contains ages and not times, because a machine's clock
// may be wrong. An age is in milliseconds; nil means not since the guest started.
type Activity struct {
	Input    *int64 `json:"input,omitempty"`    // a key, a button, the pointer or the clipboard of a viewer that may control, or input in a terminal
	Chat     *int64 `json:"chat,omitempty"`     // a message sent to the agent
	Agent    *int64 `json:"agent,omitempty"`    // a run was in progress; 0: one is
	Question *int64 `json:"question,omitempty"` // the agent waited for its user, within the question's deadline and at most an hour
	Shell    *int64 `json:"shell,omitempty"`    // a program was in the foreground of a terminal

	// Blind says that the guest cannot see whether the agent works: it has no connection to the gateway.
	Blind bool `json:"blind,omitempty"`

	// NextJob is in how many milliseconds the next job of the agent's schedule is due; nil: none, or not known.
	NextJob *int64 `json:"next_job,omitempty"`

	// Cost is what the gateway estimates that its models cost since the guest started, in micro-dollars; Meter is drawn
	// when the guest starts.
	Meter string `json:"meter,omitempty"`
	Cost  int64  `json:"cost_micros,omitempty"`
}

// MaxNotice is the longest text of a notice, in bytes.
const MaxNotice = 300

// Notice is a message that the desktop shows above everything else until it is withdrawn or its time has passed.
type Notice struct {
	Text string `json:"text"`          // one sentence; "": none any more
	For  int64  `json:"for,omitempty"` // milliseconds until it disappears by itself
	// Count says that the desktop shows how much of that time is left: then it stops.
	Count bool `json:"count,omitempty"`
}
