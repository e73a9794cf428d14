package provisionertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Cloud is a small cloud with a ledger. What goes wrong is scripted by Answers, or drawn from a seed while the
// cloud is faulty: refusals of all verdicts, answers lost before and after the effect, calls that hang, calls
// without effect, machines that are not listed yet, stale reports. A used ClientToken always gives its machine,
// as every cloud with such tokens promises.
type Cloud struct {
	Elsewhere string      // the region it is in; "": test
	Blind     atomic.Bool // it lists none of its machines
	Certain   bool        // the caller of a launch always learns its outcome

	seed     uint64
	mu       sync.Mutex
	faulty   bool
	script   map[string][]Fate // the next answers, by call
	drawn    map[string]uint64 // how often each kind of fate was drawn
	machines map[string]*machine
	tokens   map[string]*machine
	specs    map[string]string // the request that a token was first used with, by token
	trace    []string
	faults   map[string]int // by kind, for the count
	wrongs   []string       // what must never happen with a correct control plane
}

// Fate is what becomes of one call.
type Fate struct {
	Err     error // nil: it is answered
	Effect  bool  // it takes effect, whatever the answer
	Hangs   bool  // the answer never comes
	Without bool  // it is answered, but has no effect
	Took    time.Duration
}

type machine struct {
	id, instance, userData   string
	state, next              instance.Seen
	before                   instance.Seen // in a stale report
	changes, reported, known time.Time
	boots                    int
	ended                    time.Time
}

var okay = Fate{Effect: true, Took: 50 * time.Millisecond}

// NewCloud returns a cloud without machines that is not faulty.
func NewCloud(seed uint64) *Cloud {
	return &Cloud{
		seed: seed, script: map[string][]Fate{}, drawn: map[string]uint64{}, machines: map[string]*machine{},
		tokens: map[string]*machine{}, specs: map[string]string{}, faults: map[string]int{},
	}
}

// SetFaulty says whether fates are drawn from the seed.
func (c *Cloud) SetFaulty(faulty bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faulty = faulty
}

// Refused returns a refusal with a code.
func Refused(v instance.Verdict, code string) error {
	return &machines.CallError{Verdict: v, Code: code, Reason: "The cloud said " + code + ".", Err: errors.New("scripted")}
}

// rand returns a source for the next draw of a kind. Draws of other kinds do not change it.
func (c *Cloud) rand(kind string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(kind))
	c.drawn[kind]++
	return rand.New(rand.NewPCG(c.seed, h.Sum64()+c.drawn[kind]))
}

// fate decides a call's fate. fresh means that a launch's token is unused.
func (c *Cloud) fate(call string, fresh bool) Fate {
	if s := c.script[call]; len(s) > 0 {
		c.script[call] = s[1:]
		return s[0]
	}
	r := c.rand(call)
	f := okay
	f.Took = time.Duration(10+r.IntN(900)) * time.Millisecond
	if !c.faulty {
		return f
	}
	lost := errors.New("connection reset by peer")
	kind := ""
	switch n := r.IntN(100); {
	case n < 12:
		f.Effect, f.Err, kind = false, Refused(instance.Again, "RequestLimitExceeded"), "throttled"
	case n < 20:
		f.Effect, f.Err, kind = false, lost, "request lost"
	case n < 28:
		f.Err, kind = lost, "reply lost"
	case n < 31:
		f.Hangs, f.Effect, kind = true, r.IntN(2) == 0, "hung"
	case n < 43 && (fresh || call == "start"):
		f.Effect, f.Err, kind = false, Refused(instance.Another, "InsufficientInstanceCapacity"), "no capacity"
	case n < 46 && fresh, n < 46 && call == "start", n < 48 && (call == "stop" || call == "terminate"):
		f.Effect, f.Err, kind = false, Refused(instance.Never, "UnsupportedOperation"), "never"
	case n < 56 && call == "stop", n < 52 && (call == "start" || call == "terminate"):
		f.Without, kind = true, "no effect"
	}
	if c.Certain && call == "launch" && (f.Hangs || f.Effect && f.Err != nil) {
		return okay
	}
	if kind != "" {
		c.faults[kind]++
	}
	return f
}

// call makes a call meet its fate.
func (c *Cloud) call(ctx context.Context, name, who string, fresh func() bool, effect func()) error {
	c.mu.Lock()
	f := c.fate(name, fresh())
	c.note("%s %s begins", name, who)
	c.mu.Unlock()
	if err := retry.Sleep(ctx, f.Took); err != nil {
		return err
	}
	c.mu.Lock()
	if ctx.Err() == nil && f.Effect && !f.Without {
		c.settle()
		effect()
	}
	c.note("%s %s: effect %v, hangs %v, %v", name, who, f.Effect && !f.Without, f.Hangs, f.Err)
	c.mu.Unlock()
	if f.Hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.Err
}

func (c *Cloud) note(format string, args ...any) {
	c.trace = append(c.trace, time.Now().UTC().Format(TraceTime)+fmt.Sprintf(format, args...))
}

// Region is a machines.Cloud's.
func (c *Cloud) Region() string { return cmp.Or(c.Elsewhere, "test") }

// Types is a machines.Cloud's.
func (c *Cloud) Types() []machines.MachineType {
	return []machines.MachineType{{ID: "small"}, {ID: "large"}}
}

// Freeze is a machines.Cloud's.
func (c *Cloud) Freeze(p machines.LaunchPlan) (instance.Spec, error) {
	return instance.Spec{
		ClientToken: p.ClientToken, Image: "image", Type: p.Type, Region: "test", Subnet: fmt.Sprint("subnet-", p.Attempt%3),
		UserData: "token=" + machines.TokenPlaceholder, Tags: map[string]string{"instance": p.Instance},
	}, nil
}

// Launch is a machines.Cloud's.
func (c *Cloud) Launch(ctx context.Context, s instance.Spec, userData string) (id string, err error) {
	token := s.ClientToken
	c.mu.Lock()
	request := fmt.Sprint(s, userData)
	if was, used := c.specs[token]; used && was != request {
		c.wrongs = append(c.wrongs, "IdempotentParameterMismatch: "+token)
	}
	c.specs[token] = request
	c.mu.Unlock()
	fresh := func() bool { return c.tokens[token] == nil }
	err = c.call(ctx, "launch", token, fresh, func() {
		m := c.tokens[token]
		if m == nil {
			m = c.launch(s, userData)
		}
		id = m.id
	})
	return id, err
}

func (c *Cloud) launch(s instance.Spec, userData string) *machine {
	owner := s.Tags["instance"]
	for _, m := range c.machines {
		if m.instance == owner && m.state != instance.SeenGone {
			c.wrongs = append(c.wrongs, fmt.Sprintf("second machine for %s beside %s (%s)", owner, m.id, m.state))
		}
	}
	if !strings.HasPrefix(userData, "token="+owner+".") {
		c.wrongs = append(c.wrongs, "user data without its token: "+userData)
	}
	r := c.rand("machine")
	m := &machine{
		id: "m-" + s.ClientToken, instance: owner, userData: userData,
		state: instance.SeenPending, before: instance.SeenPending, known: time.Now().Add(time.Duration(r.IntN(60)) * time.Second),
	}
	c.machines[m.id], c.tokens[s.ClientToken] = m, m
	c.become(m, instance.SeenRunning)
	return m
}

// become moves a machine to a state, which takes a while. Its reports change a little later.
func (c *Cloud) become(m *machine, to instance.Seen) {
	if m.next == instance.SeenGone || m.state == instance.SeenGone {
		return
	}
	r := c.rand("change")
	m.before, m.next = m.state, to
	if to != instance.SeenStopped {
		m.before = instance.SeenPending
	}
	m.changes = time.Now().Add(time.Duration(1+r.IntN(90)) * time.Second)
	m.reported = m.changes.Add(time.Duration(r.IntN(10)) * time.Second)
}

// settle moves every machine to the state that is due by now.
func (c *Cloud) settle() {
	now := time.Now()
	for _, id := range slices.Sorted(maps.Keys(c.machines)) {
		m := c.machines[id]
		if m.next == "" || now.Before(m.changes) {
			continue
		}
		if m.next == instance.SeenRunning && m.state != instance.SeenRunning {
			m.boots++
		}
		if m.next == instance.SeenGone {
			m.ended = m.changes
		}
		m.state, m.next = m.next, ""
		c.note("%s is %s", m.id, m.state)
	}
}

func (c *Cloud) change(ctx context.Context, call, id string, to instance.Seen) error {
	return c.call(ctx, call, id, func() bool { return false }, func() {
		m := c.machines[id]
		switch {
		case m == nil:
			c.wrongs = append(c.wrongs, call+" of a strange machine "+id)
		case m.state != to || m.next != "":
			c.become(m, to)
		}
	})
}

// Start is a machines.Cloud's.
func (c *Cloud) Start(ctx context.Context, id string) error {
	return c.change(ctx, "start", id, instance.SeenRunning)
}

// Stop is a machines.Cloud's.
func (c *Cloud) Stop(ctx context.Context, id string) error {
	return c.change(ctx, "stop", id, instance.SeenStopped)
}

// Terminate is a machines.Cloud's.
func (c *Cloud) Terminate(ctx context.Context, id string) error {
	return c.change(ctx, "terminate", id, instance.SeenGone)
}

// Describe is a machines.Cloud's.
func (c *Cloud) Describe(ctx context.Context, ids []string) (list []machines.Machine, err error) {
	if c.Blind.Load() {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.settle()
	if c.faulty && c.rand("describe").IntN(20) == 0 {
		c.faults["describe"]++
		return nil, Refused(instance.Again, "RequestLimitExceeded")
	}
	now := time.Now()
	for _, id := range ids {
		m := c.machines[id]
		if m == nil || now.Before(m.known) || !m.ended.IsZero() && now.Sub(m.ended) > time.Hour {
			continue
		}
		seen := m.state
		if now.Before(m.reported) {
			seen = m.before
		}
		list = append(list, machines.Machine{ID: id, Seen: seen, Address: m.address()})
	}
	slices.Reverse(list) // any order
	return list, nil
}

// Outside changes a machine that r picks behind the control plane's back.
func (c *Cloud) Outside(r *rand.Rand) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	ids := slices.Sorted(maps.Keys(c.machines))
	if len(ids) == 0 {
		return
	}
	to := []instance.Seen{instance.SeenStopped, instance.SeenRunning, instance.SeenStopped, instance.SeenRunning, instance.SeenGone}[r.IntN(5)]
	m := c.machines[ids[r.IntN(len(ids))]]
	if m.state == instance.SeenPending || m.state == to || m.next != "" {
		return
	}
	c.faults["outside"]++
	c.note("outside: %s %s", m.id, to)
	c.become(m, to)
}

// Machines returns the machines of the ledger that are not gone, by id.
func (c *Cloud) Machines() (list []Machine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	for _, id := range slices.Sorted(maps.Keys(c.machines)) {
		if m := c.machines[id]; m.state != instance.SeenGone {
			list = append(list, Machine{
				ID: m.id, Instance: m.instance, Token: strings.TrimPrefix(m.userData, "token="),
				State: m.state, Moving: m.next != "", Address: m.address(), Boots: m.boots,
			})
		}
	}
	return list
}

func (m *machine) address() string { return fmt.Sprint("203.0.113.", m.boots) }

// Answers scripts the next answers to "launch", "start", "stop" or "terminate".
func (c *Cloud) Answers(call string, fates ...Fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.script[call] = append(c.script[call], fates...)
}

// Delay puts off by d what the machines are changing to.
func (c *Cloud) Delay(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.machines {
		m.changes = m.changes.Add(d)
		m.reported = m.changes
	}
}

// Launches returns how many machines were ever made.
func (c *Cloud) Launches() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.machines)
}

// Calls returns how many calls of a kind began.
func (c *Cloud) Calls(call string) (n int) {
	for _, line := range c.Trace() {
		if strings.Contains(line, " "+call+" ") && strings.HasSuffix(line, " begins") {
			n++
		}
	}
	return n
}

// Trace returns what happened, a line each.
func (c *Cloud) Trace() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.trace)
}

// Faults returns how many faults of each kind were drawn.
func (c *Cloud) Faults() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.faults)
}

// Wrongs returns what must never happen with a correct control plane, and clears it.
func (c *Cloud) Wrongs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	wrongs := c.wrongs
	c.wrongs = nil
	return wrongs
}
