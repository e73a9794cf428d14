package ec2_test

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const environment = "env-under-test"

var origin = commands.Origin{Account: "01ACCOUNT"}

// setup says what a stage is made of. The wrappers are where faults are planted.
type setup struct {
	seed      uint64
	plan      ec2test.Plan
	reconcile bool
	workers   int
	poll      time.Duration // between looks at machines that should be changing; 0: 30 s
	policy    provisioning.Policy

	transport func(http.RoundTripper) http.RoundTripper
	cloud     func(machines.Inventory) machines.Inventory
	store     func(eventstore.Store) eventstore.Store
}

// stage is the real saga, adapter and SDK against ec2test, on synctest's clock.
type stage struct {
	setup
	t         testing.TB
	srv       *ec2test.Server
	store     *watched
	log       commands.Log
	instances *commands.Instances
	guests    *commands.Guests
	subnets   []string

	mu     sync.Mutex
	crash  func(point string) bool
	points map[string]int
	wrongs []string
	runs   []*run
	made   int
	mute   bool // guests say nothing while until waits
	fixed  map[provisioner.Kind]int

	read   int64
	states map[string]instance.State
}

type run struct {
	cancel context.CancelFunc
	done   chan error
}

func newStage(t testing.TB, c setup) *stage {
	s := &stage{setup: c, t: t, points: map[string]int{}, states: map[string]instance.State{}, fixed: map[provisioner.Kind]int{}, subnets: []string{"subnet-a", "subnet-b"}}
	s.srv = ec2test.New(ec2test.Config{Seed: c.seed, Plan: c.plan, Effect: s.effect})
	var under eventstore.Store = memory.New()
	if c.store != nil {
		under = c.store(under)
	}
	s.store = &watched{Store: under, final: s.final}
	var ids atomic.Int64
	s.log = commands.Log{
		Store: s.store, NewID: func() string { return fmt.Sprintf("01TEST%020d", ids.Add(1)) },
		Now: func() time.Time { return time.Now().UTC() }, DigestKey: []byte("digest key"),
	}
	s.instances = &commands.Instances{Log: s.log, Vault: vault{}, Cloud: s.newCloud(), Limit: 3}
	s.guests = &commands.Guests{Log: s.log, Tokens: tokens{}}
	t.Cleanup(s.stop)
	return s
}

// newCloud returns the adapter as a fresh process would have it.
func (s *stage) newCloud() machines.Inventory {
	rt := s.srv.Transport()
	if s.setup.transport != nil {
		rt = s.setup.transport(rt)
	}
	c, err := ec2.New(context.Background(), ec2.Config{
		Region: "eu-test-1", Endpoint: "http://ec2.test", Environment: environment, Image: "ami-1", SecurityGroup: "sg-1",
		Subnets: s.subnets, KeyPair: "key-1", AWS: awsConfig(rt), Pace: ec2.Pace{Look: 20, Act: 20},
		Jitter:   func(d time.Duration) time.Duration { return time.Duration(s.seed*7919) % d },
		UserData: func(machines.LaunchPlan) (string, error) { return "token=" + machines.TokenPlaceholder, nil },
	})
	if err == nil {
		_, err = c.Settle(context.Background())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if s.setup.cloud != nil {
		return s.setup.cloud(c)
	}
	return c
}

func awsConfig(rt http.RoundTripper) *aws.Config {
	return &aws.Config{HTTPClient: doer{rt}, Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKTEST", SecretAccessKey: "secret"}, nil
	})}
}

type doer struct{ http.RoundTripper }

func (d doer) Do(r *http.Request) (*http.Response, error) { return d.RoundTrip(r) }

// start lets a saga run, with a reconciler beside it where there is one.
func (s *stage) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{cancel: cancel, done: make(chan error, 1)}
	s.made++
	jitter := rand.New(rand.NewPCG(s.seed, uint64(s.made)))
	var jitters sync.Mutex
	cloud := s.newCloud()
	saga := &provisioner.Saga{
		Log: s.log, Cloud: cloud, Tokens: tokens{}, Live: s.live, Feed: feed{s.store},
		Logger: slog.New(slog.DiscardHandler), PollEvery: cmp.Or(s.poll, 30*time.Second), SweepEvery: 4 * time.Minute, Policy: s.policy, Workers: max(s.workers, 1),
		Jitter: func(d time.Duration) time.Duration {
			jitters.Lock()
			defer jitters.Unlock()
			return time.Duration(jitter.Int64N(int64(d)))
		},
		At: func(point string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.points[point]++
			if s.crash != nil && s.crash(point) {
				cancel() // whatever comes after sees it and has no effect: as dead as a process gets
			}
		},
	}
	var beside sync.WaitGroup
	if s.reconcile {
		rec := &provisioner.Reconciler{Log: s.log, Cloud: cloud, Live: s.live, Logger: slog.New(slog.DiscardHandler)}
		beside.Go(func() {
			for ctx.Err() == nil {
				_ = retry.Sleep(ctx, 5*time.Minute)
				report, err := rec.Reconcile(ctx)
				if err != nil {
					continue
				}
				s.mu.Lock()
				for _, f := range report.Findings {
					if f.Done {
						s.fixed[f.Kind]++
					}
				}
				s.mu.Unlock()
			}
		})
	}
	go func() {
		err := saga.Run(ctx)
		beside.Wait()
		r.done <- err
	}()
	s.runs = append(s.runs, r)
}

func (s *stage) crashes(at func(point string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crash = at
}

func (s *stage) stop() {
	for _, r := range s.runs {
		r.cancel()
		if err := <-r.done; err != nil {
			s.wrong("saga ended with %v", err)
		}
	}
	s.runs = nil
}

// dead reports whether a saga has ended, and forgets it.
func (s *stage) dead() bool {
	for i, r := range s.runs {
		select {
		case <-r.done:
			s.runs = append(s.runs[:i:i], s.runs[i+1:]...)
			return true
		default:
		}
	}
	return false
}

func (s *stage) wrong(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrongs = append(s.wrongs, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// effect holds each effective call against the log at the moment it takes effect.
func (s *stage) effect(e ec2test.Entry, all []ec2test.Machine) {
	if e.Outside || e.Launch == nil {
		return
	}
	tags := e.Launch.Tags["instance"]
	id := tags[ec2.TagInstance]
	for _, kind := range []string{"instance", "volume", "network-interface"} {
		if t := e.Launch.Tags[kind]; t[ec2.TagEnvironment] != environment || t[ec2.TagInstance] == "" || t[ec2.TagAttempt] == "" {
			s.wrong("%s was launched with a %s tagged %v", e.Machine, kind, t)
		}
	}
	if e.Launch.ClientToken == "" {
		s.wrong("%s was launched without a client token", e.Machine)
	}
	spec, ok := s.attempt(id, tags[ec2.TagAttempt])
	if !ok || spec.ClientToken != e.Launch.ClientToken || spec.Type != e.Launch.Type || spec.Subnet != e.Launch.Subnet || spec.Image != e.Launch.Image {
		s.wrong("%s was launched and the log does not say so: %+v", e.Machine, spec)
	}
	for _, m := range all {
		if m.ID != e.Machine && m.Launch.Tags["instance"][ec2.TagInstance] == id && m.Live() {
			s.wrong("%s was launched for %s beside %s (%s)", e.Machine, id, m.ID, m.State)
		}
	}
}

// attempt returns the Spec of an attempt as the log has it.
func (s *stage) attempt(id, number string) (spec instance.Spec, ok bool) {
	n, _ := strconv.Atoi(number)
	ctx := context.WithValue(context.Background(), strict{}, true)
	for e, err := range s.store.ReadStream(ctx, eventstore.StreamID{Aggregate: "instance", ID: id}, 0) {
		if err != nil {
			return spec, false
		}
		if e.Type != "instance.launch_attempted" {
			continue
		}
		if ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data); err == nil && ev.(instance.LaunchAttempted).Attempt == n {
			return ev.(instance.LaunchAttempted).Spec, true
		}
	}
	return spec, false
}

// final holds the end of an instance against the cloud.
func (s *stage) final(id string) {
	for _, m := range s.srv.Machines() {
		if m.Launch.Tags["instance"][ec2.TagInstance] == id && m.Live() {
			s.wrong("%s is over, and its machine %s is %s", id, m.ID, m.State)
		}
	}
}

// watched tells of the ends of instances.
type watched struct {
	eventstore.Store
	final func(id string)
}

func (w *watched) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	res, err := w.Store.Append(ctx, a)
	for _, wr := range a.Writes {
		for _, e := range wr.Events {
			if err == nil && (e.Type == "instance.terminated" || e.Type == "instance.failed") {
				w.final(wr.Stream.ID)
			}
		}
	}
	return res, err
}

func (s *stage) live(ctx context.Context) (ids []string, position int64, err error) {
	over := map[string]bool{}
	for e, err := range s.store.ReadAll(ctx, 0) {
		if err != nil {
			return nil, 0, err
		}
		if position = e.Position; e.Stream.Aggregate == "instance" {
			over[e.Stream.ID] = e.Type == "instance.terminated" || e.Type == "instance.failed"
		}
	}
	for id, is := range over {
		if !is {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, position, nil
}

// fold brings the states up to the log, and holds the log to its own laws.
func (s *stage) fold() map[string]instance.State {
	for e, err := range s.store.ReadAll(context.Background(), s.read) {
		if err != nil {
			s.t.Fatal(err)
		}
		s.read = e.Position
		if e.Stream.Aggregate != "instance" {
			continue
		}
		ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			s.t.Fatal(err)
		}
		was := s.states[e.Stream.ID]
		switch ev := ev.(type) {
		case instance.LaunchAttempted:
			if was.Open || was.Machine != "" || ev.Attempt != was.Attempts+1 {
				s.wrong("attempt %d after %d, open %v, machine %q", ev.Attempt, was.Attempts, was.Open, was.Machine)
			}
		case instance.MachineLaunched:
			if !was.Open || was.Machine != "" {
				s.wrong("machine %s was launched twice", ev.Machine)
			}
		case instance.Failed:
			if ev.Code == "" || !strings.HasSuffix(ev.Reason, ".") && !strings.HasSuffix(ev.Reason, "again") {
				s.wrong("%s failed because %q %q", e.Stream, ev.Code, ev.Reason)
			}
		}
		if was.Final() {
			if _, ok := ev.(instance.TerminationRequested); !ok && e.Type != "instance.terminated" {
				s.wrong("%s after the end of %s", e.Type, e.Stream)
			}
		}
		s.states[e.Stream.ID] = instance.Evolve(was, ev)
	}
	return s.states
}

func (s *stage) state(id string) instance.State { return s.fold()[id] }

func (s *stage) create() string {
	s.t.Helper()
	out, err := s.instances.Create(context.Background(), origin, "desk", "")
	if err != nil {
		s.t.Fatal(err)
	}
	return out.Answer.ID
}

// do is a user's command; refusals are the user's own business.
func (s *stage) do(command, id string) {
	var err error
	switch command {
	case "stop":
		_, err = s.instances.Stop(context.Background(), origin, id)
	case "start":
		_, err = s.instances.Start(context.Background(), origin, id)
	case "terminate":
		_, err = s.instances.Terminate(context.Background(), origin, id)
	}
	if no := (*domain.Error)(nil); err != nil && !errors.As(err, &no) {
		s.wrong("%s %s: %v", command, id, err)
	}
}

// speak lets the guests of the running machines enrol and report.
func (s *stage) speak(silent func() bool) {
	for _, m := range s.srv.Machines() {
		id := m.Launch.Tags["instance"][ec2.TagInstance]
		if m.State != ec2test.Running || id == "" || silent != nil && silent() {
			continue
		}
		st := s.state(id)
		if st.Final() || !st.Exists() {
			continue
		}
		if st.Enrolled != st.Attempts {
			_, _ = s.guests.Enroll(context.Background(), strings.TrimPrefix(m.Launch.UserData, "token="), []byte(fmt.Sprintf("%-32.32s", m.ID)))
		}
		next, boot := instance.PhaseBooting.Rank(), fmt.Sprint("boot-", m.Boots)
		if st.Boot == boot {
			next = st.Phase.Rank() + 1
		}
		if next < len(instance.Phases) {
			if err := s.guests.Reached(context.Background(), id, boot, instance.Phases[next], ""); err != nil {
				s.wrong("reached: %v", err)
			}
		}
	}
}

// until lets time pass, and guests speak, until the instance is as wanted.
func (s *stage) until(what, id string, wanted func(instance.State) bool) instance.State {
	s.t.Helper()
	for range 2 * 3600 {
		if st := s.state(id); wanted(st) {
			return st
		}
		_ = retry.Sleep(context.Background(), 2*time.Second)
		synctest.Wait()
		s.speak(func() bool { return s.mute })
		if s.dead() {
			s.start()
		}
	}
	s.t.Fatalf("%s: never %s; state %+v\n%s", id, what, s.state(id), s.history())
	return instance.State{}
}

func status(want instance.Status) func(instance.State) bool {
	return func(s instance.State) bool { return s.Status == want }
}

func ready(s instance.State) bool { return s.Ready() }

// agree compares the cloud's ledger with the log when all is quiet.
func (s *stage) agree() error {
	alive := map[string][]ec2test.Machine{}
	for _, m := range s.srv.Machines() {
		if m.Live() && m.Launch.Tags["instance"][ec2.TagEnvironment] == environment || m.Live() && m.Launch.ClientToken != "" {
			id := m.Launch.Tags["instance"][ec2.TagInstance]
			alive[id] = append(alive[id], m)
		}
	}
	states := s.fold()
	for _, id := range slices.Sorted(maps.Keys(states)) {
		st, machines := states[id], alive[id]
		delete(alive, id)
		switch {
		case st.Final():
			if len(machines) > 0 {
				return fmt.Errorf("%s is %s, and its machine %s is %s", id, st.Status, machines[0].ID, machines[0].State)
			}
		case st.Status != instance.Running && st.Status != instance.Stopped:
			return fmt.Errorf("%s is still %s: %+v", id, st.Status, st)
		case len(machines) != 1 || machines[0].ID != st.Machine:
			return fmt.Errorf("%s is %s with machine %q, and the ledger has %+v", id, st.Status, st.Machine, machines)
		case string(machines[0].State) != string(st.Status) || machines[0].Moving:
			return fmt.Errorf("%s is %s, and its machine %s", id, st.Status, machines[0].State)
		case st.Status == instance.Running && st.Address != machines[0].Address:
			return fmt.Errorf("%s is at %s, and its machine at %s", id, st.Address, machines[0].Address)
		case st.Status == instance.Running && !st.Ready() && !st.Stalled:
			return fmt.Errorf("%s runs, is not ready and says no reason: %+v", id, st)
		}
	}
	if len(alive) > 0 {
		return fmt.Errorf("orphans: %v", alive)
	}
	launched := map[string]bool{}
	for _, e := range s.srv.Ledger() {
		if e.Launch != nil && !e.Outside {
			if launched[e.Launch.ClientToken] {
				return fmt.Errorf("two launches of client token %s", e.Launch.ClientToken)
			}
			launched[e.Launch.ClientToken] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := append(slices.Clone(s.wrongs), s.srv.Wrongs()...); len(all) > 0 {
		return fatal{errors.New(strings.Join(all, "; "))}
	}
	return nil
}

// fatal is a fault that time does not heal.
type fatal struct{ error }

func (s *stage) agreed() {
	s.t.Helper()
	if err := s.agree(); err != nil {
		s.t.Errorf("%v\n%s", err, s.history())
	}
}

// history is the log and the ledger, by time.
func (s *stage) history() string {
	var lines []string
	for e, err := range s.store.ReadAll(context.Background(), 0) {
		if err == nil && e.Stream.Aggregate == "instance" {
			text := string(e.Data)
			if len(text) > 200 {
				text = text[:200]
			}
			lines = append(lines, fmt.Sprint(e.Time.Format("15:04:05.000000 "), e.Position, " ", e.Stream.ID, " ", e.Type, " ", text))
		}
	}
	for _, e := range s.srv.Ledger() {
		who := "api"
		if e.Outside {
			who = "outside"
		}
		lines = append(lines, fmt.Sprint(e.Time.Format("15:04:05.000000 "), "LEDGER ", who, " ", e.Action, " ", e.Machine))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// play runs one scene in a bubble of its own.
func play(t *testing.T, c setup, scene func(s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { scene(newStage(t, c)) })
}

// feed is a Feed over any store.
type feed struct{ store eventstore.Store }

func (f feed) Follow(ctx context.Context, after int64, fn func(context.Context, []eventstore.Event) error) error {
	hints := f.store.Notifications(ctx)
	for {
		var batch []eventstore.Event
		for e, err := range f.store.ReadAll(ctx, after) {
			if err != nil {
				return err
			}
			batch = append(batch, e)
		}
		if len(batch) > 0 {
			if err := fn(ctx, batch); err != nil {
				return err
			}
			after = batch[len(batch)-1].Position
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hints:
		}
	}
}

// vault seals nothing: names play no part here.
type vault struct{}

func (vault) NewKey(context.Context, string) error  { return nil }
func (vault) DropKey(context.Context, string) error { return nil }

func (vault) Seal(_ context.Context, _, _ string, plain []byte) ([]byte, error)  { return plain, nil }
func (vault) Open(_ context.Context, _, _ string, sealed []byte) ([]byte, error) { return sealed, nil }

// tokens are enrolment tokens: instance.attempt.mac.
type tokens struct{}

func (tokens) CurrentKey() string { return "k1" }

func (tokens) Token(id string, attempt int, keyID string) (string, error) {
	mac := hmac.New(sha256.New, []byte(keyID))
	fmt.Fprintf(mac, "%s.%d", id, attempt)
	return fmt.Sprintf("%s.%d.%x", id, attempt, mac.Sum(nil)), nil
}

func (tokens) Parse(token string) (id string, attempt int, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", 0, errors.New("malformed")
	}
	attempt, err = strconv.Atoi(parts[1])
	return parts[0], attempt, err
}

func (k tokens) Verify(token, keyID string) bool {
	id, attempt, err := k.Parse(token)
	if err != nil {
		return false
	}
	want, _ := k.Token(id, attempt, keyID)
	return want == token
}
