// Package ec2test is a small EC2 for tests: the part of the Query protocol that adapters/ec2
// speaks, with client tokens, eventual consistency, states that take time, capacity, throttling and
// answers lost after their effect. What goes wrong comes from a seeded plan: one seed, one run.
//
// The one thing to know: its ledger is the truth that tests hold the control plane to. It lists
// the effective calls only, in the order they took effect.
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

// Config is how a Server begins.
type Config struct {
	Seed   uint64
	Plan   Plan
	Ledger io.Writer // gets the ledger as JSON lines; nil: it is kept in memory only
	// Effect is called after each entry of the ledger with all machines as they are then, while the
	// server is locked: it must not call it. Nil: nobody.
	Effect func(Entry, []Machine)
	// Guest is what runs on each machine; see Run. Zero: nothing does.
	Guest  Guest
	Logger *slog.Logger // nil: silent
}

// Server is an http.Handler. It needs no goroutine of its own: whatever takes time has happened
// when somebody looks.
type Server struct {
	cfg Config

	mu       sync.Mutex
	plan     Plan
	drawn    map[string]uint64 // how often each kind of chance was drawn
	script   map[string][]Fate // by action: what becomes of its next calls
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

// rand returns a source for the n-th draw of a kind, so that one draw more elsewhere changes nothing here.
func (s *Server) rand(kind string) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, kind)
	s.drawn[kind]++
	return rand.New(rand.NewPCG(s.cfg.Seed, h.Sum64()+s.drawn[kind]))
}

// SetPlan changes what goes wrong from now on.
func (s *Server) SetPlan(p Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = p
}

// Script settles the next calls of an action ("RunInstances"), before any chance is drawn.
func (s *Server) Script(action string, fates ...Fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script[action] = append(s.script[action], fates...)
}

// SetClock sets the cloud's clock, by how much it is ahead of its callers'. As EC2 does, it refuses what is signed
// more than five minutes off, and says its time in each answer.
func (s *Server) SetClock(ahead time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}

// SetFull says whether there is capacity for a type in a subnet.
func (s *Server) SetFull(machineType, subnet string, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full[[2]string{machineType, subnet}] = full
}

// Outside is somebody else's hand on a machine, as in the web console: state is stopped, running
// or terminated. A machine that cannot go there stays as it is.
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
		s.enter(Entry{Action: "StopInstances", Machine: id, Outside: true})
	case state == Running && m.state == Stopped:
		s.become(m, Pending)
		s.enter(Entry{Action: "StartInstances", Machine: id, Outside: true})
	case state == Terminated && m.live():
		s.become(m, ShuttingDown)
		m.reason = "Client.UserInitiatedShutdown"
		s.enter(Entry{Action: "TerminateInstances", Machine: id, Outside: true})
	default:
		return fmt.Errorf("machine %s is %s and cannot become %s", id, m.state, state)
	}
	return nil
}

// Put adds a machine that somebody else made, as it is, with a client token or "".
func (s *Server) Put(token string, tags map[string]string) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.add(Launch{ClientToken: token, Type: "t3.large", Tags: map[string]map[string]string{"instance": tags}})
	m.state, m.next, m.known = Running, "", time.Time{}
	s.enter(Entry{Action: "RunInstances", Machine: m.id, Outside: true, Launch: &m.launch})
	return m.id
}

// Kill ends a machine as the cloud itself does when something is wrong: code is the state reason.
func (s *Server) Kill(id, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	m := s.machines[id]
	s.become(m, ShuttingDown)
	m.reason = code
	s.enter(Entry{Action: "TerminateInstances", Machine: id, Outside: true})
}

// Machine is one machine as it really is, whatever is reported of it.
type Machine struct {
	ID       string
	State    State
	Moving   bool // on its way to another state
	Address  string
	Boots    int
	Launch   Launch
	Launched time.Time
}

// Live tells whether the machine costs money or may come to: it is not terminated.
func (m Machine) Live() bool { return m.State != Terminated }

// Machines lists all machines there ever were, in the order of their launch.
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

// Wrongs lists what a correct client never does: a used client token with other parameters.
func (s *Server) Wrongs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.wrongs)
}

// Faults counts what went wrong, by kind; Calls the requests that arrived, by action.
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
