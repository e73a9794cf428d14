package ec2test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// State is an instance state by EC2's name.
type State string

const (
	Pending      State = "pending"
	Running      State = "running"
	ShuttingDown State = "shutting-down"
	Terminated   State = "terminated"
	Stopping     State = "stopping"
	Stopped      State = "stopped"
)

// codes holds EC2's numbers of the states.
var codes = map[State]int{Pending: 0, Running: 16, ShuttingDown: 32, Terminated: 48, Stopping: 64, Stopped: 80}

// Launch is the request of a launch.
type Launch struct {
	ClientToken    string                       `json:"client_token,omitempty"`
	Image          string                       `json:"image"`
	Type           string                       `json:"type"`
	Subnet         string                       `json:"subnet,omitempty"`
	SecurityGroups []string                     `json:"security_groups,omitempty"`
	KeyPair        string                       `json:"key_pair,omitempty"`
	UserData       string                       `json:"-"` // decoded; it holds a token
	Digest         string                       `json:"digest"`
	Tags           map[string]map[string]string `json:"tags,omitempty"` // by resource: instance, volume, network-interface
	Volume         map[string]string            `json:"volume,omitempty"`
	Metadata       map[string]string            `json:"metadata,omitempty"`
	Shutdown       string                       `json:"shutdown,omitempty"`
}

type machine struct {
	id       string
	launch   Launch
	launched time.Time

	state   State
	next    State // the state it is changing to; "": none
	changes time.Time
	shown   view // what answers show until lag
	lag     time.Time
	why     string // why its state changed, as answers say it
	bill    bill
	known   time.Time // answers do not include it before
	ended   time.Time
	address string
	reason  string
	boots   int
	stuck   bool // its stop does not end unless forced
}

// view is what answers show of a machine.
type view struct {
	state    State
	address  string
	launched time.Time
	why      string
}

func (m *machine) view() view { return view{m.state, m.address, m.launched, m.why} }

func (m *machine) live() bool { return m.state != Terminated && m.state != ShuttingDown }

func (m *machine) public() Machine {
	return Machine{ID: m.id, State: m.state, Moving: m.next != "", Address: m.address, Boots: m.boots, Launch: m.launch, Launched: m.launched}
}

func (s *Server) add(l Launch) *machine {
	s.made++
	m := &machine{
		id: fmt.Sprintf("i-%08x%09x", s.made, s.cfg.Seed&0xfffffffff), launch: l, launched: time.Now(),
		known: time.Now().Add(s.plan.Unknown.draw(s.rand("unknown"))),
	}
	m.bill.created = m.launched
	s.machines[m.id] = m
	s.become(m, Pending)
	return m
}

// become begins a transition, which ends later.
func (s *Server) become(m *machine, state State) {
	now := time.Now()
	if m.state != "" {
		m.shown, m.lag = m.view(), now.Add(s.plan.Lag.draw(s.rand("lag")))
		m.shown.address = ""
	}
	if m.state == Running {
		m.bill.stopped(now)
	}
	m.state, m.why = state, ""
	switch r := s.rand(string(state)); state {
	case Pending:
		m.next, m.changes, m.reason = Running, now.Add(s.plan.Boot.draw(r)), ""
		m.launched = now
	case Stopping:
		m.next, m.changes = Stopped, now.Add(s.plan.Stop.draw(r))
		m.stuck = r.IntN(1000) < s.plan.Stuck
		if m.stuck {
			s.faults["stuck stop"]++
		}
	case ShuttingDown:
		m.next, m.changes = Terminated, now.Add(s.plan.Terminate.draw(r))
	}
	if state != Pending {
		m.address = ""
	}
}

// settle brings all changes that are due into effect.
func (s *Server) settle() {
	now := time.Now()
	for len(s.late) > 0 && !now.Before(s.late[0].at) {
		run := s.late[0].run
		s.late = s.late[1:]
		run()
	}
	for _, id := range slices.Sorted(maps.Keys(s.machines)) {
		m := s.machines[id]
		if m.next == "" || now.Before(m.changes) || m.next == Stopped && m.stuck {
			continue
		}
		m.shown, m.lag = m.view(), m.changes.Add(s.plan.Lag.draw(s.rand("lag")))
		m.shown.address = ""
		m.state, m.next = m.next, ""
		switch m.state {
		case Running:
			m.boots++
			r := s.rand("address")
			m.address = fmt.Sprintf("198.51.%d.%d", 100+r.IntN(100), 1+r.IntN(254))
			m.bill.started(m.changes)
		case Terminated:
			m.ended = m.changes
			m.bill.deleted = m.changes
		}
	}
}

// visible reports whether answers include the machine.
func (s *Server) visible(m *machine) bool {
	now := time.Now()
	keep := s.plan.Keep
	keep = cmp.Or(keep, time.Hour)
	return !now.Before(m.known) && (m.ended.IsZero() || now.Sub(m.ended) < keep)
}

// reported returns what answers show of the machine, which may lag behind.
func (m *machine) reported() view {
	if m.shown.state != "" && time.Now().Before(m.lag) {
		return m.shown
	}
	return m.view()
}

// asked notes that a user requested the machine's end or stop now, as EC2 says it in its answers: in most of them.
func (s *Server) asked(m *machine) {
	if s.rand("timeless").IntN(1000) < s.plan.Timeless {
		s.faults["timeless"]++
		return
	}
	zone := "GMT"
	if m.boots%2 == 0 { // it says one or the other
		zone = "UTC"
	}
	if m.state == Stopping {
		m.bill.runs[len(m.bill.runs)-1].Said = true
	}
	m.why = "User initiated (" + s.now().UTC().Format(time.DateTime) + " " + zone + ")"
}
