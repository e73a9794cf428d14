package commands_test

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

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// cloud is a small cloud with a ledger. What goes wrong is scripted, or drawn from a seed while it
// is faulty: refusals of all verdicts, answers lost before and after the effect, calls that hang,
// calls without effect, machines nobody knows yet, stale reports. A used ClientToken always gives
// its machine, as every cloud with such tokens promises.
type cloud struct {
	mu       sync.Mutex
	seed     uint64
	region   string      // it is in; "": test
	blind    atomic.Bool // it knows none of its machines
	faulty   bool
	certain  bool              // no launch has an outcome that its caller does not hear
	script   map[string][]fate // by call: what its next answers are
	drawn    map[string]uint64 // how often each kind of fate was drawn
	machines map[string]*machine
	tokens   map[string]*machine
	specs    map[string]string // token to the request it was first used with
	trace    []string
	faults   map[string]int // by kind, for the count
	wrongs   []string       // what a correct control plane never makes happen
}

// fate is what becomes of one call.
type fate struct {
	err     error // nil: it is answered
	effect  bool  // it takes effect, whatever the answer
	hangs   bool  // the answer never comes
	without bool  // it is answered, and nothing comes of it
	took    time.Duration
}

type machine struct {
	id, instance, token, userData string
	state, next                   instance.Seen
	before                        instance.Seen // what a stale report says
	changes, reported, known      time.Time
	boots                         int
	ended                         time.Time
}

var okay = fate{effect: true, took: 50 * time.Millisecond}

func newCloud(seed uint64) *cloud {
	return &cloud{
		seed: seed, script: map[string][]fate{}, drawn: map[string]uint64{}, machines: map[string]*machine{},
		tokens: map[string]*machine{}, specs: map[string]string{}, faults: map[string]int{},
	}
}

func refused(v instance.Verdict, code string) error {
	return &commands.CallError{Verdict: v, Code: code, Reason: "The cloud said " + code + ".", Err: errors.New("scripted")}
}

// rand returns a source for the n-th draw of a kind, so that one draw more elsewhere changes nothing here.
func (c *cloud) rand(kind string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(kind))
	c.drawn[kind]++
	return rand.New(rand.NewPCG(c.seed, h.Sum64()+c.drawn[kind]))
}

// fate decides a call; fresh says that a launch's token is unused.
func (c *cloud) fate(call string, fresh bool) fate {
	if s := c.script[call]; len(s) > 0 {
		c.script[call] = s[1:]
		return s[0]
	}
	r := c.rand(call)
	f := okay
	f.took = time.Duration(10+r.IntN(900)) * time.Millisecond
	if !c.faulty {
		return f
	}
	lost := errors.New("connection reset by peer")
	kind := ""
	switch n := r.IntN(100); {
	case n < 12:
		f.effect, f.err, kind = false, refused(instance.Again, "RequestLimitExceeded"), "throttled"
	case n < 20:
		f.effect, f.err, kind = false, lost, "request lost"
	case n < 28:
		f.err, kind = lost, "reply lost"
	case n < 31:
		f.hangs, f.effect, kind = true, r.IntN(2) == 0, "hung"
	case n < 43 && (fresh || call == "start"):
		f.effect, f.err, kind = false, refused(instance.Another, "InsufficientInstanceCapacity"), "no capacity"
	case n < 46 && fresh, n < 46 && call == "start", n < 48 && (call == "stop" || call == "terminate"):
		f.effect, f.err, kind = false, refused(instance.Never, "UnsupportedOperation"), "never"
	case n < 56 && call == "stop", n < 52 && (call == "start" || call == "terminate"):
		f.without, kind = true, "no effect"
	}
	if c.certain && call == "launch" && (f.hangs || f.effect && f.err != nil) {
		return okay
	}
	if kind != "" {
		c.faults[kind]++
	}
	return f
}

// call carries a call to its fate.
func (c *cloud) call(ctx context.Context, name, who string, fresh func() bool, effect func()) error {
	c.mu.Lock()
	f := c.fate(name, fresh())
	c.note("%s %s begins", name, who)
	c.mu.Unlock()
	if err := pause(ctx, f.took); err != nil {
		return err
	}
	c.mu.Lock()
	if ctx.Err() == nil && f.effect && !f.without {
		c.settle()
		effect()
	}
	c.note("%s %s: effect %v, hangs %v, %v", name, who, f.effect && !f.without, f.hangs, f.err)
	c.mu.Unlock()
	if f.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

// pause waits on the clock, which in these tests is not the world's.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (c *cloud) note(format string, args ...any) {
	c.trace = append(c.trace, time.Now().UTC().Format("15:04:05.000000000 ")+fmt.Sprintf(format, args...))
}

func (c *cloud) Region() string { return cmp.Or(c.region, "test") }

func (c *cloud) Types() []commands.MachineType {
	return []commands.MachineType{{ID: "small"}, {ID: "large"}}
}

func (c *cloud) Freeze(p commands.LaunchPlan) (instance.Spec, error) {
	return instance.Spec{
		ClientToken: p.ClientToken, Image: "image", Type: p.Type, Region: "test", Subnet: fmt.Sprint("subnet-", p.Attempt%3),
		UserData: "token=" + commands.TokenPlaceholder, Tags: map[string]string{"instance": p.Instance},
	}, nil
}

func (c *cloud) Launch(ctx context.Context, s instance.Spec, userData string) (id string, err error) {
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

func (c *cloud) launch(s instance.Spec, userData string) *machine {
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
		id: "m-" + s.ClientToken, instance: owner, token: s.ClientToken, userData: userData,
		state: instance.SeenPending, before: instance.SeenPending, known: time.Now().Add(time.Duration(r.IntN(60)) * time.Second),
	}
	c.machines[m.id], c.tokens[s.ClientToken] = m, m
	c.become(m, instance.SeenRunning)
	return m
}

// become lets a machine go to a state, which takes a while, and its reports a little longer.
func (c *cloud) become(m *machine, to instance.Seen) {
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

// settle brings every machine to the state it has by now.
func (c *cloud) settle() {
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

func (c *cloud) change(ctx context.Context, call, id string, to instance.Seen) error {
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

func (c *cloud) Start(ctx context.Context, id string) error {
	return c.change(ctx, "start", id, instance.SeenRunning)
}

func (c *cloud) Stop(ctx context.Context, id string) error {
	return c.change(ctx, "stop", id, instance.SeenStopped)
}

func (c *cloud) Terminate(ctx context.Context, id string) error {
	return c.change(ctx, "terminate", id, instance.SeenGone)
}

func (c *cloud) Describe(ctx context.Context, ids []string) (list []commands.Machine, err error) {
	if c.blind.Load() {
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
		return nil, refused(instance.Again, "RequestLimitExceeded")
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
		list = append(list, commands.Machine{ID: id, Seen: seen, Address: "203.0.113." + fmt.Sprint(m.boots)})
	}
	slices.Reverse(list) // any order
	return list, nil
}

// outside changes a machine behind the control plane's back.
func (c *cloud) outside(r *rand.Rand) {
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

// running returns the machines that run, for their guests to speak.
func (c *cloud) running() (list []machine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	for _, id := range slices.Sorted(maps.Keys(c.machines)) {
		if m := c.machines[id]; m.state == instance.SeenRunning {
			list = append(list, *m)
		}
	}
	return list
}

// alive returns the machines of the ledger that are not gone, by instance.
func (c *cloud) alive() map[string][]machine {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	found := map[string][]machine{}
	for _, m := range c.machines {
		if m.state != instance.SeenGone {
			found[m.instance] = append(found[m.instance], *m)
		}
	}
	return found
}

func (c *cloud) answers(call string, fates ...fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.script[call] = append(c.script[call], fates...)
}

func (c *cloud) launches() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.machines)
}

// calls counts the calls of a kind that began.
func (c *cloud) calls(call string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, line := range c.trace {
		if strings.Contains(line, " "+call+" ") && strings.HasSuffix(line, " begins") {
			n++
		}
	}
	return n
}
