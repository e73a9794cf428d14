// Package ec2 makes machines on Amazon EC2. It is the only package that imports EC2's SDK.
//
// The one thing to know: the saga repeats a launch with the same ClientToken until it gets an answer. So the
// whole request comes from the attempt's Spec, and no answer may say "there is no machine" if there may be one.
package ec2

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Config configures where and how machines are made.
type Config struct {
	Region        string   // "eu-central-1"; "": the SDK's, from AWS_REGION or a profile
	Endpoint      string   // URL of EC2; "": AWS_ENDPOINT_URL, else the region's own
	Environment   string   // the value of TagEnvironment, which marks our machines; required, one for each database
	Image         string   // AMI; required
	SecurityGroup string   // needs no inbound rule; "": the VPC's default
	Subnets       []string // tried in this order when one is full; none: the default VPC's choice
	KeyPair       string   // "": machines without an SSH key
	VolumeGiB     int      // size of the disk; 0: 40
	Types         []Type   // on offer, the default first; none: DefaultTypes

	// UserData renders the script of a machine's first boot, with machines.TokenPlaceholder in place of the
	// enrolment token. It must make no network call. A *machines.CallError with verdict Never gives the launch up;
	// any other error is retried. Required.
	UserData func(machines.LaunchPlan) (string, error)

	AWS    *aws.Config  // credentials and transport; nil: the SDK's default chain, IAM roles included
	Logger *slog.Logger // nil: silent
	Pace   Pace         // of calls; the zero value suits an account's default limits
	// Jitter returns a duration below its argument. Nil: a random one.
	Jitter func(time.Duration) time.Duration
}

// Type is a size on offer.
type Type struct {
	machines.MachineType
	Instead []string // equally good types, used when this one is full
}

// DefaultTypes returns types large enough for a desktop and the agent.
func DefaultTypes() []Type {
	return []Type{
		{machines.MachineType{ID: "t3.large", CPUs: 2, Memory: 8 << 10}, []string{"t3a.large"}},
		{machines.MachineType{ID: "t3.medium", CPUs: 2, Memory: 4 << 10}, []string{"t3a.medium"}},
		{machines.MachineType{ID: "t3.xlarge", CPUs: 4, Memory: 16 << 10}, []string{"t3a.xlarge"}},
	}
}

// Tags of every machine, its disk and its network interface.
const (
	TagEnvironment = "cloudbot:environment"
	TagInstance    = "cloudbot:instance"
	TagAttempt     = "cloudbot:attempt"
	TagAccount     = "cloudbot:account" // for operators: whose machine it is, if the log does not know it
)

// Cloud implements machines.Cloud and machines.Inventory. It launches nothing before Run or Settle has looked the
// image up.
type Cloud struct {
	cfg  Config
	log  *slog.Logger
	api  *ec2.Client
	full *full
	look *pace // Describe calls
	act  *pace // the others

	image atomic.Pointer[settled] // nil: not looked up yet

	mu       sync.Mutex
	strange  map[string]time.Time // client tokens that EC2 has seen with another request, and since when
	stopping map[string]time.Time // machines asked to stop, and since when
	ended    map[string]time.Time // machines that ran until we terminated them, and when
	doubts   map[string]int       // refusals of a call's credentials for no lasting reason
}

var (
	_ machines.Cloud     = (*Cloud)(nil)
	_ machines.Inventory = (*Cloud)(nil)
)

// New returns a Cloud. It makes no network call.
func New(ctx context.Context, cfg Config) (*Cloud, error) {
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	if cfg.Jitter == nil {
		cfg.Jitter = rand.N[time.Duration]
	}
	if len(cfg.Types) == 0 {
		cfg.Types = DefaultTypes()
	}
	if len(cfg.Subnets) == 0 {
		cfg.Subnets = []string{""}
	}
	cfg.VolumeGiB = cmp.Or(cfg.VolumeGiB, 40)
	var shared aws.Config
	if cfg.AWS != nil {
		shared = cfg.AWS.Copy()
	} else {
		var err error
		if shared, err = config.LoadDefaultConfig(ctx); err != nil {
			return nil, fmt.Errorf("configure EC2: %w", err)
		}
	}
	cfg.Region = cmp.Or(cfg.Region, shared.Region)
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("configure EC2: %w", err)
	}
	api := ec2.NewFromConfig(shared, func(o *ec2.Options) {
		o.Region = cfg.Region
		o.Retryer = aws.NopRetryer{} // the saga retries, and records why
		if cfg.Endpoint != "" {
			o.BaseEndpoint = &cfg.Endpoint
		}
		if o.HTTPClient == nil {
			o.HTTPClient = http.DefaultClient
		}
	})
	return &Cloud{
		cfg: cfg, log: cfg.Logger, api: api, full: &full{until: map[place]time.Time{}},
		look: newPace(cfg.Pace.Look, 10, 40), act: newPace(cfg.Pace.Act, 2, 5),
		strange: map[string]time.Time{}, stopping: map[string]time.Time{}, ended: map[string]time.Time{}, doubts: map[string]int{},
	}, nil
}

func (c Config) check() error {
	var missing []string
	for name, value := range map[string]string{"a region": c.Region, "an environment id": c.Environment, "an image": c.Image} {
		if value == "" {
			missing = append(missing, name)
		}
	}
	if c.UserData == nil {
		missing = append(missing, "user data")
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("%s missing", strings.Join(missing, ", "))
	}
	return nil
}

// Region implements machines.Cloud.
func (c *Cloud) Region() string { return c.cfg.Region }

// Types implements machines.Cloud.
func (c *Cloud) Types() []machines.MachineType {
	list := make([]machines.MachineType, len(c.cfg.Types))
	for i, t := range c.cfg.Types {
		list[i] = t.MachineType
	}
	return list
}

// callTimeout bounds one request to EC2. After it the outcome is unknown, and a retry finds it out.
const callTimeout = 25 * time.Second

// ask makes one paced call.
func ask[In, Out any](ctx context.Context, p *pace, call func(context.Context, In, ...func(*ec2.Options)) (Out, error), in In) (Out, error) {
	var none Out
	if err := p.wait(ctx); err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := call(ctx, in)
	p.heard(err)
	return out, err
}

// refused turns an error that did not come from EC2 into the saga's.
func refused(v instance.Verdict, code, reason string, err error) error {
	return &machines.CallError{Verdict: v, Code: code, Reason: reason, Err: err}
}
