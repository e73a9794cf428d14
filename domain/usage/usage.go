// Package usage says what desktops used and what that costs. Desktop folds an instance's events into intervals, and
// Prices charges intervals. Money is whole micro-dollars, always rounded down.
//
// The one thing to know: where a time is not known exactly, the intervals err in favour of the customer. A run begins when
// the control plane first saw it, and ends at the cloud's own time or at the last moment at which it certainly ran.
package usage

import "time"

// Kind is what is charged.
type Kind string

const (
	Compute Kind = "compute" // a machine that runs
	Disk    Kind = "disk"    // from launch to termination
	Address Kind = "address" // the public address of a machine that runs
	Model   Kind = "model"   // the gateway's own estimate of what its models cost
)

// Kinds lists the kinds, in order.
var Kinds = [...]Kind{Compute, Disk, Address, Model}

// End says how an interval's end is known.
type End string

const (
	Open    End = ""      // it has not ended
	ByCloud End = "cloud" // the cloud's own time
	Seen    End = "seen"  // the last time at which it is known to have been in use
)

// Interval is a time during which a desktop used one thing. Times are UTC, in microseconds.
type Interval struct {
	Instance string    `json:"instance"`
	Account  string    `json:"account"`
	N        int       `json:"n"` // its number among the desktop's intervals, from 1
	Kind     Kind      `json:"kind"`
	Region   string    `json:"region"`
	Type     string    `json:"type"`
	GiB      int       `json:"gib,omitempty"` // of a disk; 0: the price list's default
	From     time.Time `json:"from"`
	To       time.Time `json:"to,omitzero"` // zero: it is open
	End      End       `json:"end,omitempty"`
}

// ModelDay is what a desktop's models cost on a UTC day, by the gateway's own estimate.
type ModelDay struct {
	Instance string
	Account  string
	Type     string    // of its machine
	Day      time.Time // its midnight
	Micros   int64
}

// Usage is what desktops used.
type Usage struct {
	Intervals []Interval
	Models    []ModelDay
}

// Row is what a desktop used of one kind on a UTC day.
type Row struct {
	Instance string
	Account  string
	Day      time.Time // its midnight
	Kind     Kind
	Type     string        // of the machine, the latest of that day
	Time     time.Duration // in use, with the minimum of each run; 0 for models
	Seen     time.Duration // part of Time: of runs whose end was only seen
	Micros   int64         // rounded down
	Priced   bool          // false: a part of it has no price, which counts as 0
}

// Micros returns the sum of the rows.
func Micros(rows []Row) (sum int64) {
	for _, r := range rows {
		sum += r.Micros
	}
	return sum
}

// Day returns the midnight that begins the UTC day of a time.
func Day(at time.Time) time.Time { return at.UTC().Truncate(24 * time.Hour) }

// Month returns the first midnight of the UTC month of a time.
func Month(at time.Time) time.Time {
	at = at.UTC()
	return time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
}
