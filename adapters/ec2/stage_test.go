package ec2_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const environment = "env-under-test"

// setup configures a stage. Its wrappers plant faults.
type setup struct {
	seed      uint64
	plan      ec2test.Plan
	reconcile bool
	workers   int
	poll      time.Duration // between looks at machines that should be changing; 0: 30 s
	sweep     time.Duration // between looks at all machines; 0: 4 min
	limit     int           // instances that the account may have; 0: 3
	policy    provisioning.Policy

	transport func(http.RoundTripper) http.RoundTripper
	cloud     func(machines.Inventory) machines.Inventory
	store     func(eventstore.Store) eventstore.Store
}

// stage is the real saga, adapter and SDK against ec2test, on synctest's clock.
type stage struct {
	*provisionertest.Stage
	setup
	t       testing.TB
	srv     *ec2test.Server
	log     eventstore.Store // as the sagas see it, without the wrappers of commandstest
	subnets []string

	kept  keeper
	mu    sync.Mutex
	fixed map[provisioner.Kind]int
}

func newStage(t testing.TB, c setup) *stage {
	s := &stage{setup: c, t: t, fixed: map[provisioner.Kind]int{}, subnets: []string{"subnet-a", "subnet-b"}}
	s.srv = ec2test.New(ec2test.Config{Seed: c.seed, Plan: c.plan, Effect: s.effect})
	s.log = memory.New()
	if c.store != nil {
		s.log = c.store(s.log)
	}
	s.log = &watched{Store: s.log, final: s.final}
	s.Stage = provisionertest.NewStage(t, provisionertest.Config{
		Seed: c.seed, Limit: c.limit, Store: s.log, Saga: s.saga, Run: s.run, Machines: s.machines, Trace: s.ledger,
	})
	s.Instances.Cloud = s.newCloud()
	return s
}

// newCloud returns the adapter as a new process has it.
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

func (s *stage) saga() *provisioner.Saga {
	return &provisioner.Saga{
		Cloud: s.newCloud(), PollEvery: cmp.Or(s.poll, 30*time.Second), SweepEvery: cmp.Or(s.sweep, 4*time.Minute),
		Policy: s.policy, Workers: max(s.workers, 1), Looks: &provisioner.Looks{Store: &s.kept},
	}
}

// keeper is a provisioner.LookStore in memory.
type keeper struct {
	mu   sync.Mutex
	text []byte
}

func (k *keeper) Load(context.Context) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text, nil
}

func (k *keeper) Save(_ context.Context, text []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.text = text
	return nil
}

// run runs a saga, together with a reconciler if the setup has one.
func (s *stage) run(ctx context.Context, saga *provisioner.Saga) error {
	if !s.reconcile {
		return saga.Run(ctx)
	}
	reconciler := &provisioner.Reconciler{Log: s.Log, Cloud: saga.Cloud.(machines.Inventory), Live: s.Live, Looks: saga.Looks}
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() {
		for retry.Sleep(ctx, 5*time.Minute) == nil {
			report, err := reconciler.Reconcile(ctx)
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
	return saga.Run(ctx)
}

// machines returns the control plane's machines, by their tag or by their client token.
func (s *stage) machines() (list []provisionertest.Machine) {
	for _, m := range s.srv.Machines() {
		tags := m.Launch.Tags["instance"]
		if m.Live() && (tags[ec2.TagEnvironment] == environment || m.Launch.ClientToken != "") {
			list = append(list, provisionertest.Machine{
				ID: m.ID, Instance: tags[ec2.TagInstance], Token: strings.TrimPrefix(m.Launch.UserData, "token="),
				State: instance.Seen(m.State), Moving: m.Moving, Address: m.Address, Boots: m.Boots,
			})
		}
	}
	return list
}

// ledger returns the calls that took effect, one per line.
func (s *stage) ledger() (lines []string) {
	for _, e := range s.srv.Ledger() {
		who := "api"
		if e.Outside {
			who = "outside"
		}
		lines = append(lines, fmt.Sprint(e.Time.Format(provisionertest.TraceTime), "LEDGER ", who, " ", e.Action, " ", e.Machine))
	}
	return lines
}

// effect compares each call that takes effect with the log at that moment.
func (s *stage) effect(e ec2test.Entry, all []ec2test.Machine) {
	if e.Outside || e.Launch == nil {
		return
	}
	tags := e.Launch.Tags["instance"]
	id := tags[ec2.TagInstance]
	for _, kind := range []string{"instance", "volume", "network-interface"} {
		if t := e.Launch.Tags[kind]; t[ec2.TagEnvironment] != environment || t[ec2.TagInstance] == "" || t[ec2.TagAttempt] == "" {
			s.Wrong("%s was launched with a %s tagged %v", e.Machine, kind, t)
		}
	}
	if e.Launch.ClientToken == "" {
		s.Wrong("%s was launched without a client token", e.Machine)
	}
	spec, ok := s.attempt(id, tags[ec2.TagAttempt])
	if !ok || spec.ClientToken != e.Launch.ClientToken || spec.Type != e.Launch.Type || spec.Subnet != e.Launch.Subnet || spec.Image != e.Launch.Image {
		s.Wrong("%s was launched and the log does not say so: %+v", e.Machine, spec)
	}
	for _, m := range all {
		if m.ID != e.Machine && m.Launch.Tags["instance"][ec2.TagInstance] == id && m.Live() {
			s.Wrong("%s was launched for %s beside %s (%s)", e.Machine, id, m.ID, m.State)
		}
	}
}

// attempt returns the Spec of an attempt from the log.
func (s *stage) attempt(id, number string) (spec instance.Spec, ok bool) {
	n, _ := strconv.Atoi(number)
	ctx := context.WithValue(context.Background(), strict{}, true)
	for e, err := range s.log.ReadStream(ctx, eventstore.StreamID{Aggregate: "instance", ID: id}, 0) {
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

// final compares the end of an instance with the cloud.
func (s *stage) final(id string) {
	for _, m := range s.srv.Machines() {
		if m.Launch.Tags["instance"][ec2.TagInstance] == id && m.Live() {
			s.Wrong("%s is over, and its machine %s is %s", id, m.ID, m.State)
		}
	}
}

// watched calls final at the end of each instance.
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

// agree compares the cloud's ledger with the log while no changes are in progress.
func (s *stage) agree() error {
	if wrongs := s.srv.Wrongs(); len(wrongs) > 0 {
		return fmt.Errorf("%w: the cloud saw %s", provisionertest.ErrWrong, strings.Join(wrongs, "; "))
	}
	if err := s.Agree(); err != nil {
		return err
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
	return nil
}

func (s *stage) agreed() {
	s.t.Helper()
	if err := s.agree(); err != nil {
		s.t.Errorf("got %v, want ledger and log to agree\n%s", err, s.History())
	}
}

// play runs one scene in its own bubble.
func play(t *testing.T, c setup, scene func(s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { scene(newStage(t, c)) })
}
