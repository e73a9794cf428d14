// Package ec2test is a small EC2 for tests: the part of the Query protocol that adapters/ec2 uses, with client
// tokens, eventual consistency, state changes that take time, capacity, throttling and answers lost after their
// effect. Faults come from a seeded plan: the same seed gives the same run.
//
// The one thing to know: its ledger is the truth that tests compare the control plane with. It lists only calls
// that took effect, in that order.
package ec2test

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Config configures a Server.
type Config struct {
	Seed   uint64
	Plan   Plan
	Ledger io.Writer // receives the ledger as JSON lines; nil: the ledger is in memory only
	// Effect is called after each entry of the ledger with the state of all machines. The server is locked
	// meanwhile, so Effect must not call it. Nil: no call.
	Effect func(Entry, []Machine)
	// Guest is the program that runs on each machine; see Run. Zero: none.
	Guest  Guest
	Logger *slog.Logger // nil: silent
}

// Server is an http.Handler. It needs no goroutine of its own: each call first brings all state changes that are
// due into effect.
type Server struct {
	cfg Config

	mu       sync.Mutex
	plan     Plan
	drawn    map[string]uint64 // number of draws, by kind
	script   map[string][]Fate // fates of the next calls, by action
	full     map[[2]string]bool
	buckets  map[string]*bucket
	machines map[string]*machine
	tokens   map[string]*machine
	late     []late
	ledger   []Entry
	made     int
	faults   map[string]int
	calls    map[string]int
	wrongs   []string
	failed   error // of writing the ledger
	looks    looks
	ahead    time.Duration // of the callers' clocks
}

// late is a call whose request arrives long after its caller gave up.
type late struct {
	at  time.Time
	run func()
}

// New returns an empty cloud.
func New(cfg Config) *Server {
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &Server{
		cfg: cfg, plan: cfg.Plan, drawn: map[string]uint64{}, script: map[string][]Fate{}, full: map[[2]string]bool{},
		buckets: map[string]*bucket{}, machines: map[string]*machine{}, tokens: map[string]*machine{},
		faults: map[string]int{}, calls: map[string]int{},
	}
}

// rand returns a source for the n-th draw of a kind, so that an additional draw elsewhere has no effect here.
func (s *Server) rand(kind string) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, kind)
	s.drawn[kind]++
	return rand.New(rand.NewPCG(s.cfg.Seed, h.Sum64()+s.drawn[kind]))
}

// SetPlan replaces the plan of faults.
func (s *Server) SetPlan(p Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = p
}

// Script sets the fates of the next calls of an action ("RunInstances"), before any chance is drawn.
func (s *Server) Script(action string, fates ...Fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script[action] = append(s.script[action], fates...)
}

// SetClock sets by how much the cloud's clock is ahead of its callers'. As EC2 does, it refuses requests signed
// more than five minutes off, and states its time in each answer.
func (s *Server) SetClock(ahead time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}

// SetFull sets whether a type has no capacity in a subnet.
func (s *Server) SetFull(machineType, subnet string, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full[[2]string{machineType, subnet}] = full
}

// Outside changes a machine without the API's client, as the web console does: state is stopped, running or
// terminated. A machine that cannot change to that state stays as it is.
func (s *Server) Outside(id string, state State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	m := s.machines[id]
	if m == nil {
		return fmt.Errorf("no machine %s", id)
	}
	switch {
	case state == Stopped && m.state == Running:
		s.become(m, Stopping)
		s.asked(m)
		s.enter(Entry{Action: "StopInstances", Machine: id, Outside: true})
	case state == Running && m.state == Stopped:
		s.become(m, Pending)
		s.enter(Entry{Action: "StartInstances", Machine: id, Outside: true})
	case state == Terminated && m.live():
		s.become(m, ShuttingDown)
		s.asked(m)
		m.reason = "Client.UserInitiatedShutdown"
		s.enter(Entry{Action: "TerminateInstances", Machine: id, Outside: true})
	default:
		return fmt.Errorf("machine %s is %s and cannot become %s", id, m.state, state)
	}
	return nil
}

// Unstick lets the stops end that do not end unless they are forced. An operator would force those begun outside.
func (s *Server) Unstick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.machines {
		m.stuck = false
	}
}

// Put adds a machine made by another client, with a client token or "".
func (s *Server) Put(token string, tags map[string]string) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.add(Launch{ClientToken: token, Type: "t3.large", Tags: map[string]map[string]string{"instance": tags}})
	m.state, m.next, m.known = Running, "", time.Time{}
	m.bill.started(m.launched)
	s.enter(Entry{Action: "RunInstances", Machine: m.id, Outside: true, Launch: &m.launch})
	return m.id
}

// Kill terminates a machine as the cloud itself does after a fault: code is the state reason.
func (s *Server) Kill(id, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	m := s.machines[id]
	s.become(m, ShuttingDown)
	m.reason, m.why = code, code
	s.enter(Entry{Action: "TerminateInstances", Machine: id, Outside: true})
}

// Machine is the true state of a machine, which reports may not show yet.
type Machine struct {
	ID       string
	State    State
	Moving   bool // changing to another state
	Address  string
	Boots    int
	Launch   Launch
	Launched time.Time
}

// Live reports whether the machine costs money or may do so: it is not terminated.
func (m Machine) Live() bool { return m.State != Terminated }

// Machines lists all machines ever launched, in the order of their launch.
func (s *Server) Machines() []Machine {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return s.list()
}

func (s *Server) list() []Machine {
	list := make([]Machine, 0, len(s.machines))
	for _, id := range slices.Sorted(maps.Keys(s.machines)) {
		list = append(list, s.machines[id].public())
	}
	return list
}

// Wrongs lists mistakes of the client: a used client token with other parameters.
func (s *Server) Wrongs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.wrongs)
}

// Faults counts the faults, by kind; Calls counts the requests that arrived, by action.
func (s *Server) Faults() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.faults)
}

func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}
