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
	shown   State // the state that answers show until lag
	lag     time.Time
	known   time.Time // answers do not include it before
	ended   time.Time
	address string
	reason  string
	boots   int
	stuck   bool // its stop does not end unless forced
}

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
	s.machines[m.id] = m
	s.become(m, Pending)
	return m
}

// become begins a transition, which ends later.
func (s *Server) become(m *machine, state State) {
	now := time.Now()
	if m.state != "" {
		m.shown, m.lag = m.state, now.Add(s.plan.Lag.draw(s.rand("lag")))
	}
	m.state = state
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
		m.shown, m.lag = m.state, m.changes.Add(s.plan.Lag.draw(s.rand("lag")))
		m.state, m.next = m.next, ""
		switch m.state {
		case Running:
			m.boots++
			r := s.rand("address")
			m.address = fmt.Sprintf("198.51.%d.%d", 100+r.IntN(100), 1+r.IntN(254))
		case Terminated:
			m.ended = m.changes
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

// reported returns the machine's state as answers show it, which may lag behind.
func (m *machine) reported() (State, string) {
	if m.shown != "" && time.Now().Before(m.lag) {
		return m.shown, ""
	}
	return m.state, m.address
}
