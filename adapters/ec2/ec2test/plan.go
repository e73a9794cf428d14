package ec2test

import (
	"math/rand/v2"
	"time"
)

// Plan sets how long actions take and how often faults occur. The zero value is a cloud that is instant and never
// fails.
type Plan struct {
	Latency   Span          // of a call
	Boot      Span          // pending to running
	Stop      Span          // stopping to stopped
	Terminate Span          // shutting-down to terminated
	Unknown   Span          // how long answers do not include a new machine
	Lag       Span          // how long answers still show the previous state
	Keep      time.Duration // how long a terminated machine is reported; 0: an hour
	Limits    bool          // EC2's documented request limits hold

	// Chances in thousandths, of each call that they fit.
	Throttled    int // RequestLimitExceeded
	Internal     int // a 500, without effect
	InternalDone int // a 500, and it took effect
	LostRequest  int // the connection is cut on the way there
	LostReply    int // the connection is cut on the way back
	Hung         int // no answer, and no effect
	HungDone     int // no answer, and it took effect
	Late         int // cut, and it takes effect minutes later; launches only
	NoCapacity   int // InsufficientInstanceCapacity; launches and starts
	Refused      int // UnauthorizedOperation, even for a used client token; launches only
	Expired      int // RequestExpired
	Idle         int // accepted without any effect; not launches
	Dies         int // a new machine is terminated while it boots
	Stuck        int // a stop does not end unless it is forced
	Undone       int // a start fails: the machine stops again while it boots
	Timeless     int // a run's end has no time in reports
	Unseen       int // for each machine in an answer: it is left out, although it has been visible before
}

// Span is a random time from Min to Max.
type Span struct{ Min, Max time.Duration }

func (d Span) draw(r *rand.Rand) time.Duration {
	if d.Max <= d.Min {
		return d.Min
	}
	return d.Min + time.Duration(r.Int64N(int64(d.Max-d.Min)))
}

// Fate is the outcome of one call. The zero value is a correct answer.
type Fate struct {
	Code   string // the error it is answered with; "": none
	Status int    // HTTP status of the error; 0: 400
	Effect bool   // with an error, a cut or a hang: the call takes effect anyway
	Cut    bool   // the connection is cut
	Hang   bool   // no answer comes
	Late   time.Duration
	Idle   bool // the call is accepted without any effect
	Took   time.Duration
}

const cutByNetwork = "connection reset"

// fate decides a call. fresh says that a launch's client token is unused.
func (s *Server) fate(action string, fresh bool) Fate {
	if list := s.script[action]; len(list) > 0 {
		s.script[action] = list[1:]
		return list[0]
	}
	r := s.rand(action)
	took := s.plan.Latency.draw(r)
	change := action != actDescribe
	launch := action == actRun
	p := s.plan
	n := r.IntN(1000)
	for _, c := range []struct {
		name   string
		chance int
		fits   bool
		fate   Fate
	}{
		{"throttled", p.Throttled, true, Fate{Code: "RequestLimitExceeded", Status: 503}},
		{"internal", p.Internal, true, Fate{Code: "InternalError", Status: 500}},
		{"internal, done", p.InternalDone, change, Fate{Code: "InternalError", Status: 500, Effect: true}},
		{"request lost", p.LostRequest, true, Fate{Cut: true}},
		{"reply lost", p.LostReply, change, Fate{Cut: true, Effect: true}},
		{"hung", p.Hung, true, Fate{Hang: true}},
		{"hung, done", p.HungDone, change, Fate{Hang: true, Effect: true}},
		{"late", p.Late, launch && fresh, Fate{Cut: true, Late: 10*time.Second + time.Duration(r.IntN(240))*time.Second}},
		{"no capacity", p.NoCapacity, launch && fresh || action == actStart, Fate{Code: "InsufficientInstanceCapacity", Status: 500}},
		{"refused", p.Refused, launch, Fate{Code: "UnauthorizedOperation", Status: 403}},
		{"expired", p.Expired, true, Fate{Code: "RequestExpired"}},
		{"idle", p.Idle, change && !launch, Fate{Idle: true}},
	} {
		if !c.fits {
			continue
		}
		if n -= c.chance; n < 0 {
			s.faults[c.name]++
			c.fate.Took = took
			return c.fate
		}
	}
	return Fate{Took: took}
}

// bucket is a token bucket; EC2 has one for each kind of request.
type bucket struct {
	tokens float64
	filled time.Time
}

// limits holds the documented limits: burst, and refill for each second.
var limits = map[string][2]float64{actDescribe: {100, 20}, actRun: {5, 2}, actStart: {5, 2}, actStop: {5, 2}, actTerminate: {100, 5}}

// within takes a token of the action's bucket, if there is one.
func (s *Server) within(action string) bool {
	limit := limits[action]
	now := time.Now()
	b := s.buckets[action]
	if b == nil {
		b = &bucket{tokens: limit[0], filled: now}
		s.buckets[action] = b
	}
	b.tokens = min(limit[0], b.tokens+now.Sub(b.filled).Seconds()*limit[1])
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
