package usage

import (
	"slices"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Desktop is what the next event's intervals depend on: the fold of one instance's events. Its JSON form, which a read
// model keeps, has all of it.
type Desktop struct {
	Instance string `json:"instance"`
	Account  string `json:"account,omitempty"`
	Region   string `json:"region,omitempty"`
	Type     string `json:"type,omitempty"`
	GiB      int    `json:"gib,omitempty"`
	N        int    `json:"n,omitempty"` // intervals so far

	// The latest interval of each kind, open or not. N is 0 if there was none.
	Run     Interval `json:"run"`
	Disk    Interval `json:"disk"`
	Address Interval `json:"address"`

	Launched time.Time `json:"launched,omitzero"` // when the cloud began the latest run, by its own clock
	Proof    time.Time `json:"proof,omitzero"`    // when something last showed that the run goes on
	Boot     string    `json:"boot,omitempty"`    // the boot that its guest last reported
	Prior    time.Time `json:"prior,omitzero"`    // Proof when that boot was first reported
	Asked    time.Time `json:"asked,omitzero"`    // when the stop of the run was requested
	Ending   time.Time `json:"ending,omitzero"`   // when the termination was requested
	Missed   time.Time `json:"missed,omitzero"`   // since when the cloud does not list the machine
}

// Changes are the intervals that an event began or changed, by their numbers, and what it adds to a day's model costs.
type Changes struct {
	Intervals []Interval
	Models    []ModelDay
}

// Apply folds an event of the instance that was logged at a time.
func (d Desktop) Apply(e instance.Event, logged time.Time) (Desktop, Changes) {
	f := fold{Desktop: d, logged: micro(logged)}
	f.apply(e)
	return f.Desktop, f.changes()
}

// fold is one Apply.
type fold struct {
	Desktop
	logged  time.Time
	touched []Kind
	closed  []Interval // that another one of their kind replaced
	models  []ModelDay
}

func (f *fold) apply(e instance.Event) {
	switch e := e.(type) {
	case instance.Requested:
		if f.Account == "" {
			f.Account, f.Region, f.Type = e.Account, e.Region, e.Type
		}
	case instance.TakenOver:
		if f.Account != "" {
			return
		}
		f.Account, f.Region, f.Type = e.Account, e.Region, instance.Original
		f.open(Disk, f.past(e.At))
		if !e.Stopped {
			f.run(f.past(e.At), e.Address, time.Time{})
		}
	case instance.LaunchAttempted:
		f.Type, f.GiB = e.Spec.Type, e.Spec.VolumeGiB
		if e.Spec.Region != "" {
			f.Region = e.Spec.Region
		}
	case instance.MachineLaunched:
		f.open(Disk, f.past(e.At))
	case instance.MachineRunning:
		f.running(e)
	case instance.AddressChanged:
		f.addressed(f.logged, e.Address)
	case instance.PhaseReached:
		f.reported(e.Boot)
	case instance.VersionsReported:
		f.reported(e.Boot)
	case instance.StopRequested:
		f.Asked = f.past(e.At)
		if e.Outside { // it was under way when it was seen
			f.Asked = domain.Earlier(f.Asked, domain.Later(f.Proof, f.Run.From))
		}
	case instance.TerminationRequested:
		if f.Ending.IsZero() {
			f.Ending = f.past(e.At)
		}
	case instance.LaunchAbandoned:
		f.Ending = f.logged
	case instance.MachineMissed:
		f.Missed = f.past(e.At)
	case instance.MachineFound:
		f.Missed = time.Time{}
	case instance.MachineStopped:
		f.ended(e.RunEnded)
	case instance.MachineGone:
		if e.Missing && f.Missed.IsZero() { // an operator said so
			f.Missed = f.logged
		}
		f.gone(e.RunEnded)
	case instance.Terminated:
		if e.By == instance.ByOperator && f.Asked.IsZero() { // it was terminated immediately before
			f.Asked = f.logged
		}
		f.gone(instance.RunEnded{})
	case instance.Failed:
		f.gone(instance.RunEnded{})
	case instance.ModelCostReported:
		if f.Account != "" && e.Added > 0 {
			f.models = append(f.models, ModelDay{Instance: f.Instance, Account: f.Account, Type: f.Type, Day: Day(f.logged), Micros: e.Added})
		}
	}
}

// past returns an event's own time, which is not after the time at which it was logged. A clock that stepped back in
// between makes the earlier time the safe one.
func (f *fold) past(at time.Time) time.Time {
	if at.IsZero() {
		return f.logged
	}
	return domain.Earlier(micro(at), f.logged)
}

func (f *fold) proof(at time.Time) {
	if f.Run.End == Open && f.Run.N > 0 {
		f.Proof = domain.Later(f.Proof, at)
	}
}

// reported notes a report of the guest. A new boot may be of a run that the cloud has not reported yet.
func (f *fold) reported(boot string) {
	if boot != f.Boot {
		f.Boot, f.Prior = boot, f.Proof
	}
	f.proof(f.logged)
}

// running begins a run, or goes on with one.
func (f *fold) running(e instance.MachineRunning) {
	at, launched := f.past(e.At), micro(e.Launched)
	known := !launched.IsZero() && !f.Launched.IsZero()
	goes := f.Run.N > 0 && f.Run.End == Open
	switch {
	case goes && (!e.RanUntil.IsZero() || known && launched.After(f.Launched)): // it was stopped and started between two looks
		if !f.Proof.Before(launched) { // the proof is of the new run
			f.Proof = f.Prior
		}
		f.ended(instance.RunEnded{RanUntil: e.RanUntil})
		f.run(at, e.Address, launched)
	case goes:
		f.Asked = time.Time{}
		f.proof(at)
		f.addressed(at, e.Address)
	case f.Run.N > 0 && known && launched.Equal(f.Launched): // the report of its end, or this one, is stale
		f.Run.To, f.Run.End, f.Asked = time.Time{}, Open, time.Time{}
		f.touch(Compute)
		f.proof(at)
		f.addressed(at, e.Address)
	default:
		f.run(at, e.Address, launched)
	}
	if !launched.IsZero() {
		f.Launched = launched
	}
}

// run begins a run, which the cloud began at a time of its own; zero: unknown. A machine that was seen before that time was
// seen by a clock that is slow.
func (f *fold) run(at time.Time, address string, launched time.Time) {
	at = domain.Later(at, launched)
	f.open(Compute, at)
	f.Launched, f.Proof = launched, domain.Later(at, f.Run.From)
	f.Asked, f.Missed = time.Time{}, time.Time{}
	f.addressed(domain.Later(at, f.Run.From), address)
}

// addressed notes the public address of the machine that runs; "": none.
func (f *fold) addressed(at time.Time, address string) {
	has := f.Address.N > 0 && f.Address.End == Open
	switch {
	case address != "" && !has && f.Run.N > 0 && f.Run.End == Open:
		f.open(Address, at)
	case address == "" && has:
		f.close(Address, at, Seen)
	}
}

// ended ends the run, if there is one.
func (f *fold) ended(e instance.RunEnded) {
	if f.Run.N == 0 || f.Run.End != Open {
		return
	}
	at, end := f.end(e)
	f.close(Compute, at, end)
	f.close(Address, at, end)
}

// end returns when the run ended, and how that is known. The cloud's time may be of a clock that is ahead.
func (f *fold) end(e instance.RunEnded) (time.Time, End) {
	switch {
	case !e.Ended.IsZero():
		return f.past(e.Ended), ByCloud
	case !e.RanUntil.IsZero():
		return f.past(e.RanUntil), Seen
	case !f.Missed.IsZero(): // nothing requested since then ended it
		return domain.Earlier(domain.Later(f.Proof, f.Run.From), f.Missed), Seen
	case !f.Asked.IsZero():
		return domain.Earlier(f.Asked, f.logged), Seen
	case !f.Ending.IsZero():
		return domain.Earlier(f.Ending, f.logged), Seen
	case !f.Launched.IsZero(): // this process had not looked before, and the cloud does not say
		return f.Proof, Seen
	}
	return f.logged, Seen // an event of an older version
}

// gone ends everything: the machine is terminated.
func (f *fold) gone(e instance.RunEnded) {
	ran := f.Run.N > 0 && f.Run.End == Open
	f.ended(e)
	at, end := f.logged, Seen
	switch {
	case !e.Ended.IsZero():
		at, end = f.past(e.Ended), ByCloud
	case !e.RanUntil.IsZero():
		at = f.past(e.RanUntil)
	case f.Run.N == 0: // its launch failed
		at = f.Disk.From
	case ran:
		at = f.Run.To
	}
	for _, bound := range []time.Time{f.Ending, f.Missed} {
		if !bound.IsZero() && bound.Before(at) {
			at, end = bound, Seen
		}
	}
	if f.Run.N > 0 { // the machine existed as long as it ran
		at = domain.Later(at, f.Run.To)
	}
	f.close(Disk, at, end)
}

func (f *fold) latest(k Kind) *Interval {
	return map[Kind]*Interval{Compute: &f.Run, Disk: &f.Disk, Address: &f.Address}[k]
}

// open begins an interval, unless one of the kind is open, and never before the one before it ended.
func (f *fold) open(k Kind, at time.Time) {
	i := f.latest(k)
	if i.N > 0 && i.End == Open || f.Account == "" {
		return
	}
	if slices.Contains(f.touched, k) {
		f.closed = append(f.closed, *i)
	}
	f.N++
	*i = Interval{
		Instance: f.Instance, Account: f.Account, N: f.N, Kind: k, Region: f.Region, Type: f.Type, From: domain.Later(at, i.To),
	}
	if k == Disk {
		i.GiB = f.GiB
	}
	f.touch(k)
}

// close ends an interval, never before it began.
func (f *fold) close(k Kind, at time.Time, end End) {
	i := f.latest(k)
	if i.N == 0 || i.End != Open {
		return
	}
	i.To, i.End = domain.Later(at, i.From), end
	f.touch(k)
}

func (f *fold) touch(k Kind) {
	if !slices.Contains(f.touched, k) {
		f.touched = append(f.touched, k)
	}
}

func (f *fold) changes() Changes {
	c := Changes{Intervals: f.closed, Models: f.models}
	for _, k := range f.touched {
		c.Intervals = append(c.Intervals, *f.latest(k))
	}
	return c
}
