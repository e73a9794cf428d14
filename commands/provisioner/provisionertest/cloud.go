// Package provisionertest has a small cloud for tests of what calls one.
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
)

// cloud is a small cloud with a ledger. What goes wrong is scripted, or drawn from a seed while it
// is faulty: refusals of all verdicts, answers lost before and after the effect, calls that hang,
// calls without effect, machines nobody knows yet, stale reports. A used ClientToken always gives
// its machine, as every cloud with such tokens promises.
type Cloud struct {
	Mu       sync.Mutex
	Seed     uint64
	Area     string      // it is in; "": test
	Blind    atomic.Bool // it knows none of its machines
	Faulty   bool
	Certain  bool              // no launch has an outcome that its caller does not hear
	script   map[string][]Fate // by call: what its next answers are
	drawn    map[string]uint64 // how often each kind of fate was drawn
	Machines map[string]*machine
	tokens   map[string]*machine
	specs    map[string]string // token to the request it was first used with
	Trace    []string
	Faults   map[string]int // by kind, for the count
	Wrongs   []string       // what a correct control plane never makes happen
}

// fate is what becomes of one call.
type Fate struct {
	Err     error // nil: it is answered
	Effect  bool  // it takes effect, whatever the answer
	Hangs   bool  // the answer never comes
	Without bool  // it is answered, and nothing comes of it
	Took    time.Duration
}

type machine struct {
	ID, Instance, token, UserData string
	State, Next                   instance.Seen
	before                        instance.Seen // what a stale report says
	Changes, Reported, known      time.Time
	Boots                         int
	ended                         time.Time
}

var okay = Fate{Effect: true, Took: 50 * time.Millisecond}

func NewCloud(seed uint64) *Cloud {
	return &Cloud{
		Seed: seed, script: map[string][]Fate{}, drawn: map[string]uint64{}, Machines: map[string]*machine{},
		tokens: map[string]*machine{}, specs: map[string]string{}, Faults: map[string]int{},
	}
}

func Refused(v instance.Verdict, code string) error {
	return &machines.CallError{Verdict: v, Code: code, Reason: "The cloud said " + code + ".", Err: errors.New("scripted")}
}

// rand returns a source for the n-th draw of a kind, so that one draw more elsewhere changes nothing here.
func (c *Cloud) rand(kind string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(kind))
	c.drawn[kind]++
	return rand.New(rand.NewPCG(c.Seed, h.Sum64()+c.drawn[kind]))
}

// fate decides a call; fresh says that a launch's token is unused.
func (c *Cloud) fate(call string, fresh bool) Fate {
	if s := c.script[call]; len(s) > 0 {
		c.script[call] = s[1:]
		return s[0]
	}
	r := c.rand(call)
	f := okay
	f.Took = time.Duration(10+r.IntN(900)) * time.Millisecond
	if !c.Faulty {
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
		c.Faults[kind]++
	}
	return f
}

// call carries a call to its fate.
func (c *Cloud) call(ctx context.Context, name, who string, fresh func() bool, effect func()) error {
	c.Mu.Lock()
	f := c.fate(name, fresh())
	c.note("%s %s begins", name, who)
	c.Mu.Unlock()
	if err := Pause(ctx, f.Took); err != nil {
		return err
	}
	c.Mu.Lock()
	if ctx.Err() == nil && f.Effect && !f.Without {
		c.settle()
		effect()
	}
	c.note("%s %s: effect %v, hangs %v, %v", name, who, f.Effect && !f.Without, f.Hangs, f.Err)
	c.Mu.Unlock()
	if f.Hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.Err
}

// pause waits on the clock, which in these tests is not the world's.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (c *Cloud) note(format string, args ...any) {
	c.Trace = append(c.Trace, time.Now().UTC().Format("15:04:05.000000000 ")+fmt.Sprintf(format, args...))
}

func (c *Cloud) Region() string { return cmp.Or(c.Area, "test") }

func (c *Cloud) Types() []machines.MachineType {
	return []machines.MachineType{{ID: "small"}, {ID: "large"}}
}

func (c *Cloud) Freeze(p machines.LaunchPlan) (instance.Spec, error) {
	return instance.Spec{
		ClientToken: p.ClientToken, Image: "image", Type: p.Type, Region: "test", Subnet: fmt.Sprint("subnet-", p.Attempt%3),
		UserData: "token=" + machines.TokenPlaceholder, Tags: map[string]string{"instance": p.Instance},
	}, nil
}

func (c *Cloud) Launch(ctx context.Context, s instance.Spec, userData string) (id string, err error) {
	token := s.ClientToken
	c.Mu.Lock()
	request := fmt.Sprint(s, userData)
	if was, used := c.specs[token]; used && was != request {
		c.Wrongs = append(c.Wrongs, "IdempotentParameterMismatch: "+token)
	}
	c.specs[token] = request
	c.Mu.Unlock()
	fresh := func() bool { return c.tokens[token] == nil }
	err = c.call(ctx, "launch", token, fresh, func() {
		m := c.tokens[token]
		if m == nil {
			m = c.launch(s, userData)
		}
		id = m.ID
	})
	return id, err
}

func (c *Cloud) launch(s instance.Spec, userData string) *machine {
	owner := s.Tags["instance"]
	for _, m := range c.Machines {
		if m.Instance == owner && m.State != instance.SeenGone {
			c.Wrongs = append(c.Wrongs, fmt.Sprintf("second machine for %s beside %s (%s)", owner, m.ID, m.State))
		}
	}
	if !strings.HasPrefix(userData, "token="+owner+".") {
		c.Wrongs = append(c.Wrongs, "user data without its token: "+userData)
	}
	r := c.rand("machine")
	m := &machine{
		ID: "m-" + s.ClientToken, Instance: owner, token: s.ClientToken, UserData: userData,
		State: instance.SeenPending, before: instance.SeenPending, known: time.Now().Add(time.Duration(r.IntN(60)) * time.Second),
	}
	c.Machines[m.ID], c.tokens[s.ClientToken] = m, m
	c.become(m, instance.SeenRunning)
	return m
}

// become lets a machine go to a state, which takes a while, and its reports a little longer.
func (c *Cloud) become(m *machine, to instance.Seen) {
	if m.Next == instance.SeenGone || m.State == instance.SeenGone {
		return
	}
	r := c.rand("change")
	m.before, m.Next = m.State, to
	if to != instance.SeenStopped {
		m.before = instance.SeenPending
	}
	m.Changes = time.Now().Add(time.Duration(1+r.IntN(90)) * time.Second)
	m.Reported = m.Changes.Add(time.Duration(r.IntN(10)) * time.Second)
}

// settle brings every machine to the state it has by now.
func (c *Cloud) settle() {
	now := time.Now()
	for _, id := range slices.Sorted(maps.Keys(c.Machines)) {
		m := c.Machines[id]
		if m.Next == "" || now.Before(m.Changes) {
			continue
		}
		if m.Next == instance.SeenRunning && m.State != instance.SeenRunning {
			m.Boots++
		}
		if m.Next == instance.SeenGone {
			m.ended = m.Changes
		}
		m.State, m.Next = m.Next, ""
		c.note("%s is %s", m.ID, m.State)
	}
}

func (c *Cloud) change(ctx context.Context, call, id string, to instance.Seen) error {
	return c.call(ctx, call, id, func() bool { return false }, func() {
		m := c.Machines[id]
		switch {
		case m == nil:
			c.Wrongs = append(c.Wrongs, call+" of a strange machine "+id)
		case m.State != to || m.Next != "":
			c.become(m, to)
		}
	})
}

func (c *Cloud) Start(ctx context.Context, id string) error {
	return c.change(ctx, "start", id, instance.SeenRunning)
}

func (c *Cloud) Stop(ctx context.Context, id string) error {
	return c.change(ctx, "stop", id, instance.SeenStopped)
}

func (c *Cloud) Terminate(ctx context.Context, id string) error {
	return c.change(ctx, "terminate", id, instance.SeenGone)
}

func (c *Cloud) Describe(ctx context.Context, ids []string) (list []machines.Machine, err error) {
	if c.Blind.Load() {
		return nil, nil
	}
	c.Mu.Lock()
	defer c.Mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.settle()
	if c.Faulty && c.rand("describe").IntN(20) == 0 {
		c.Faults["describe"]++
		return nil, Refused(instance.Again, "RequestLimitExceeded")
	}
	now := time.Now()
	for _, id := range ids {
		m := c.Machines[id]
		if m == nil || now.Before(m.known) || !m.ended.IsZero() && now.Sub(m.ended) > time.Hour {
			continue
		}
		seen := m.State
		if now.Before(m.Reported) {
			seen = m.before
		}
		list = append(list, machines.Machine{ID: id, Seen: seen, Address: "203.0.113." + fmt.Sprint(m.Boots)})
	}
	slices.Reverse(list) // any order
	return list, nil
}

// outside changes a machine behind the control plane's back.
func (c *Cloud) Outside(r *rand.Rand) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.settle()
	ids := slices.Sorted(maps.Keys(c.Machines))
	if len(ids) == 0 {
		return
	}
	to := []instance.Seen{instance.SeenStopped, instance.SeenRunning, instance.SeenStopped, instance.SeenRunning, instance.SeenGone}[r.IntN(5)]
	m := c.Machines[ids[r.IntN(len(ids))]]
	if m.State == instance.SeenPending || m.State == to || m.Next != "" {
		return
	}
	c.Faults["outside"]++
	c.note("outside: %s %s", m.ID, to)
	c.become(m, to)
}

// running returns the machines that run, for their guests to speak.
func (c *Cloud) Running() (list []machine) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.settle()
	for _, id := range slices.Sorted(maps.Keys(c.Machines)) {
		if m := c.Machines[id]; m.State == instance.SeenRunning {
			list = append(list, *m)
		}
	}
	return list
}

// alive returns the machines of the ledger that are not gone, by instance.
func (c *Cloud) Alive() map[string][]machine {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.settle()
	found := map[string][]machine{}
	for _, m := range c.Machines {
		if m.State != instance.SeenGone {
			found[m.Instance] = append(found[m.Instance], *m)
		}
	}
	return found
}

func (c *Cloud) Answers(call string, fates ...Fate) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	c.script[call] = append(c.script[call], fates...)
}

func (c *Cloud) Launches() int {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	return len(c.Machines)
}

// calls counts the calls of a kind that began.
func (c *Cloud) Calls(call string) (n int) {
	c.Mu.Lock()
	defer c.Mu.Unlock()
	for _, line := range c.Trace {
		if strings.Contains(line, " "+call+" ") && strings.HasSuffix(line, " begins") {
			n++
		}
	}
	return n
}
