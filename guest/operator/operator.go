// Package operator keeps one administrator connection to the agent's gateway. The gateway asks only administrators for
// approvals, and only they may stop a run that another connection started.
//
// The one thing to know: the connection and its token never leave the machine. Serve is the control plane's only way to it.
// It passes on the approvals and questions of this machine's chats, and a few methods with checked parameters (see
// requests.go). All other connections of the control plane pass Guard, which lets no administrator through.
package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Limits on what the gateway and the control plane may use.
const (
	maxPrompts     = 32        // approvals and questions that wait at a time; more are denied
	maxPrompt      = 48 << 10  // bytes of one; a longer one is denied
	maxEndings     = 32        // prompts that a restart cancelled, kept for new streams
	maxList        = 60 << 10  // bytes of an answer that lists them
	maxDoors       = 32        // streams of the control plane
	maxQueue       = 128       // lines that a stream may lag behind before it is closed
	maxCalls       = 4         // requests of one stream in progress
	requestRate    = 10        // requests of one stream in a second
	requestBurst   = 20        // of them at once
	maxFrame       = 1 << 20   // bytes of a frame of the gateway that is read; a longer one is skipped
	maxSkip        = 26 << 20  // bytes of such a frame; a longer one ends the connection
	maxHello       = 256 << 10 // bytes until hello-ok
	maxHelloFrames = 16        // frames until hello-ok, the challenge included
	promptRate     = 20        // events about prompts in a second that are read
	promptBurst    = 100       // of them at once
)

const (
	connectWithin = 10 * time.Second
	answerWithin  = 10 * time.Second
	silence       = 100 * time.Second // without a frame, after which a connection counts as dead; ticks come every 30 s
	settleWithin  = 3 * time.Second
)

// Config describes the gateway.
type Config struct {
	// Dial connects to the gateway. The function that it returns serves one connection and closes it.
	Dial   func(context.Context) (serve func(context.Context, net.Conn) error, err error)
	Token  string
	Gate   Gate          // nil: the agent's input cannot be held
	Logger *slog.Logger  // nil: none
	Wait   time.Duration // before the first new try to connect; 0: 500 ms
	Look   time.Duration // between two looks for prompts that the gateway withdrew without an event; 0: 10 s

	// Changed is called with the key of a session that changed, and with "" when any may have; nil: never. It must return
	// immediately.
	Changed func(session string)

	// Acted is called when the user answers an approval or a question, stops a run, or changes what the agent may do; nil:
	// never. It must return immediately.
	Acted func()
}

// Operator is the connection with the prompts that wait.
type Operator struct {
	c   Config
	log *slog.Logger

	mu        sync.Mutex
	conn      *conn               // nil: not connected
	listening bool                // the prompts are those of this connection
	prompts   []*prompt           // oldest first
	cancelled []wire.OperatorLine // by a restart: a browser was disconnected meanwhile, and hears of it later
	doors     map[*door]struct{}
	closing   bool          // the gateway will be stopped: prompts are denied
	changed   chan struct{} // closed when State changes
	runs      int           // in progress
	control   control
	work      work

	turn    sync.Mutex    // for one change of control at a time; taken before mu
	leasing chan struct{} // holds a value when control has changed
}

// New returns an operator; Run it.
func New(c Config) *Operator {
	c.Wait = cmp.Or(c.Wait, 500*time.Millisecond)
	c.Look = cmp.Or(c.Look, 10*time.Second)
	return &Operator{c: c, log: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)), doors: map[*door]struct{}{}, changed: make(chan struct{}), leasing: make(chan struct{}, 1)}
}

// Run keeps the connection until ctx ends.
func (o *Operator) Run(ctx context.Context) error {
	o.resume()
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	if o.c.Gate != nil {
		all.Go(func() { o.keepLease(ctx) })
	}
	backoff := retry.Backoff{First: o.c.Wait, Max: max(o.c.Wait, 5*time.Second), Jitter: true}
	said := ""
	for {
		began := time.Now()
		err := o.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > 10*time.Second {
			backoff.Reset()
		}
		if text := err.Error(); text != said { // a gateway takes a minute to start
			said = text
			o.log.Info("connection to the agent as its operator ended, will reconnect", "err", err)
		}
		if backoff.Sleep(ctx) != nil {
			return nil
		}
	}
}

// connect serves one connection until it ends.
func (o *Operator) connect(ctx context.Context) error {
	c, err := dial(ctx, o.c)
	if err != nil {
		return err
	}
	defer c.close()
	defer close(c.done)
	o.mu.Lock()
	o.conn, o.closing = c, false
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.conn, o.listening, o.work.counted = nil, false, false
		o.mu.Unlock()
	}()
	c.event, c.changed, c.works, c.spent = o.event, o.c.Changed, o.works, o.spent
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { o.look(c, done) })
	watching, stop := context.WithCancel(ctx)
	defer all.Wait()
	defer stop()
	defer close(done)
	defer c.ws.CloseNow() // ends a write of look
	if err := o.list(c); err != nil {
		return err
	}
	if err := o.follow(c); err != nil {
		return err
	}
	all.Go(func() { o.watchRuns(watching, c) })
	all.Go(func() { o.watchJobs(watching, c) })
	return c.read(ctx)
}

// look lists the prompts again at intervals: the gateway does not report all that expire or are withdrawn.
func (o *Operator) look(c *conn, done <-chan struct{}) {
	tick := time.NewTicker(o.c.Look)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		o.mu.Lock()
		waiting := len(o.prompts) > 0
		o.mu.Unlock()
		if waiting && o.list(c) != nil {
			return
		}
	}
}

// list asks for the prompts that wait, and compares the answers with those that are known.
func (o *Operator) list(c *conn) error {
	for _, k := range kinds {
		err := c.send(context.Background(), k.list(), struct{}{}, func(a answer) {
			if !a.ok {
				o.log.Warn("the agent did not list what it waits for", "kind", k, "err", failureOf(a.failure))
				return
			}
			o.compare(c, k, a.payload)
			if k == kinds[len(kinds)-1] {
				o.mu.Lock()
				o.listening = o.conn == c
				o.mu.Unlock()
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// refresh lists the prompts of a kind and waits for the comparison: a browser may have heard of a question over another
// connection, before the operator did.
func (o *Operator) refresh(ctx context.Context, k kind) {
	o.mu.Lock()
	c := o.conn
	o.mu.Unlock()
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	compared := make(chan struct{})
	err := c.send(context.Background(), k.list(), struct{}{}, func(a answer) {
		if a.ok {
			o.compare(c, k, a.payload)
		}
		close(compared)
	})
	if err != nil {
		return
	}
	select {
	case <-compared:
	case <-c.done:
	case <-ctx.Done():
	}
}

// compare runs in the order of the gateway's frames, so no event is missed between.
func (o *Operator) compare(c *conn, k kind, payload json.RawMessage) {
	var listed []json.RawMessage
	if k == question {
		var p struct{ Questions []json.RawMessage }
		if json.Unmarshal(payload, &p) != nil {
			return
		}
		listed = p.Questions
	} else if json.Unmarshal(payload, &listed) != nil {
		return
	}
	still := map[string]bool{}
	for _, raw := range listed[:min(len(listed), 10*maxPrompts)] {
		if p := parsePrompt(k, raw); p != nil {
			still[p.id] = true
			o.add(c, p)
		}
	}
	o.mu.Lock()
	var gone []*prompt
	for _, p := range o.prompts {
		if p.kind == k && !still[p.id] {
			gone = append(gone, p)
		}
	}
	o.mu.Unlock()
	for _, p := range gone {
		unknown := ending{Status: "expired"}
		if p.from != c { // questions do not outlive the gateway
			unknown = ending{Status: "cancelled", Reason: restarting}
		}
		o.outcome(c, p, unknown)
	}
}

// outcome asks what became of a prompt, and passes it on; unknown, if the gateway does not know.
func (o *Operator) outcome(c *conn, p *prompt, unknown ending) {
	method := "approval.get"
	if p.kind == question {
		method = "question.get"
	}
	err := c.send(context.Background(), method, map[string]string{"id": p.id}, func(a answer) {
		if a.ok {
			unknown = parseEnding(a.payload, unknown)
		}
		o.remove(p.kind, p.id, unknown)
	})
	if err != nil {
		o.remove(p.kind, p.id, unknown)
	}
}

// event handles an event about a prompt.
func (o *Operator) event(c *conn, name string, payload json.RawMessage) {
	for _, k := range kinds {
		switch name {
		case k.requested():
			if p := parsePrompt(k, payload); p != nil {
				o.add(c, p)
			}
		case k.resolved():
			var r struct{ ID, Decision, Status, Reason string }
			if json.Unmarshal(payload, &r) != nil {
				continue
			}
			end := ending{Decision: r.Decision, Status: r.Status, Reason: r.Reason}
			switch p := o.find(k, r.ID); {
			case p == nil:
			case k == question:
				o.remove(k, r.ID, end)
			default: // an approval that expired looks like one that was denied
				o.outcome(c, p, end)
			}
		}
	}
}

// add passes a prompt on if it is new. One that cannot be shown is denied: else its run would wait until it expires.
func (o *Operator) add(c *conn, p *prompt) {
	if o.keep(c, p) {
		return
	}
	o.log.Warn("a request of the agent was denied: it is too long, or too many wait, or the agent is stopping", "kind", p.kind, "bytes", len(p.raw))
	_ = o.deny(context.Background(), c, p, nil)
}

// keep reports whether the prompt waits now, or did before.
func (o *Operator) keep(c *conn, p *prompt) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := slices.IndexFunc(o.prompts, p.same); i >= 0 {
		o.prompts[i].from = c
		return true
	}
	if o.closing || len(p.raw) > maxPrompt || len(o.prompts) >= maxPrompts {
		return false
	}
	o.prompts = append(o.prompts, p)
	p.from = c
	p.begin(time.Now())
	o.broadcast(wire.OperatorLine{Event: p.kind.requested(), Payload: p.raw})
	o.stirred()
	return true
}

func (o *Operator) remove(k kind, id string, end ending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := len(o.prompts)
	if i := slices.IndexFunc(o.prompts, (&prompt{kind: k, id: id}).same); i >= 0 {
		o.work.waited = later(o.work.waited, o.prompts[i].waited(time.Now()))
	}
	o.prompts = slices.DeleteFunc(o.prompts, (&prompt{kind: k, id: id}).same)
	if len(o.prompts) == known {
		return // it was not passed on
	}
	o.stirred()
	if o.closing {
		end = ending{Decision: end.Decision, Status: "cancelled", Reason: restarting}
	}
	end.ID, end.At = id, time.Now().UnixMilli()
	payload, err := json.Marshal(end)
	if err != nil {
		return
	}
	line := wire.OperatorLine{Event: k.resolved(), Payload: payload}
	if end.Reason == restarting {
		o.cancelled = append(o.cancelled, line)
		o.cancelled = o.cancelled[max(0, len(o.cancelled)-maxEndings):]
	}
	o.broadcast(line)
}

func (o *Operator) find(k kind, id string) *prompt {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i := slices.IndexFunc(o.prompts, (&prompt{kind: k, id: id}).same); i >= 0 {
		return o.prompts[i]
	}
	return nil
}

var errNotConnected = errors.New("not connected to the agent")

// call sends a request and waits for the answer.
func (o *Operator) call(ctx context.Context, method string, params any) (answer, error) {
	o.mu.Lock()
	c := o.conn
	o.mu.Unlock()
	if c == nil {
		return answer{}, errNotConnected
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	got := make(chan answer, 1)
	if err := c.send(context.Background(), method, params, func(a answer) { got <- a }); err != nil {
		return answer{}, err
	}
	select {
	case a := <-got:
		return a, nil
	case <-c.done:
		return answer{}, errNotConnected
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}
