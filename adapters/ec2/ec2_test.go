package ec2_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

func plainUserData(machines.LaunchPlan) (string, error) {
	return "hello " + machines.TokenPlaceholder, nil
}

func config(change func(*ec2.Config)) ec2.Config {
	c := ec2.Config{
		Region: "eu-test-1", Environment: environment, Image: "ami-1", SecurityGroup: "sg-1", KeyPair: "key-1",
		Subnets: []string{"subnet-a", "subnet-b"}, UserData: plainUserData,
	}
	if change != nil {
		change(&c)
	}
	return c
}

func open(t *testing.T, srv *ec2test.Server, change func(*ec2.Config)) *ec2.Cloud {
	t.Helper()
	c, err := ec2.New(t.Context(), config(func(c *ec2.Config) {
		c.Endpoint, c.AWS, c.Pace = "http://ec2.test", awsConfig(srv.Transport()), ec2.Pace{Look: 1000, Act: 1000}
		if change != nil {
			change(c)
		}
	}))
	if err == nil {
		_, err = c.Settle(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func plan(n int) machines.LaunchPlan {
	return machines.LaunchPlan{Instance: "01DESK", Account: "01ACCOUNT", Attempt: n, Type: "t3.large", ClientToken: fmt.Sprint("01DESK-", n)}
}

func launch(t *testing.T, c *ec2.Cloud, p machines.LaunchPlan) (string, instance.Spec) {
	t.Helper()
	s, err := c.Freeze(p)
	if err != nil {
		t.Fatal(err)
	}
	id, err := c.Launch(t.Context(), s, strings.ReplaceAll(s.UserData, machines.TokenPlaceholder, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	return id, s
}

// A launch has all the security settings, and a Spec that went through the log gives the same request.
func TestLaunchRequest(t *testing.T) {
	t.Parallel()
	srv := ec2test.New(ec2test.Config{})
	c := open(t, srv, nil)
	id, s := launch(t, c, plan(1))
	m := srv.Machines()[0]
	l := m.Launch
	want := map[string]string{"Name": "cloudbot-01DESK", ec2.TagEnvironment: environment, ec2.TagInstance: "01DESK", ec2.TagAttempt: "1", ec2.TagAccount: "01ACCOUNT"}
	for _, kind := range []string{"instance", "volume", "network-interface"} {
		if !maps.Equal(l.Tags[kind], want) {
			t.Errorf("%s is tagged %v, want %v", kind, l.Tags[kind], want)
		}
	}
	if m.ID != id || l.Image != "ami-1" || l.Type != "t3.large" || l.Subnet != "subnet-a" || l.KeyPair != "key-1" ||
		!slices.Equal(l.SecurityGroups, []string{"sg-1"}) || l.UserData != "hello secret" || l.ClientToken != "01DESK-1" || l.Shutdown != "stop" {
		t.Errorf("got %+v, want m.ID %v, l.Image \"ami-1\", l.Type \"t3.large\", l.Subnet \"subnet-a\", l.KeyPair \"key-1\", l.SecurityGroups %+v, l.UserData \"hello secret\", l.ClientToken \"01DESK-1\" and l.Shutdown \"stop\"", l, id, []string{"sg-1"})
	}
	if want := map[string]string{"DeviceName": "/dev/sda1", "Ebs.Encrypted": "true", "Ebs.VolumeType": "gp3", "Ebs.VolumeSize": "40", "Ebs.DeleteOnTermination": "true"}; !maps.Equal(l.Volume, want) {
		t.Errorf("volume %v, want %v", l.Volume, want)
	}
	if want := map[string]string{"HttpTokens": "required", "HttpPutResponseHopLimit": "1", "HttpEndpoint": "enabled"}; !maps.Equal(l.Metadata, want) {
		t.Errorf("metadata %v, want %v", l.Metadata, want)
	}

	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again instance.Spec
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	// Another process, with another configuration.
	other := open(t, srv, func(c *ec2.Config) { c.Image, c.VolumeGiB, c.KeyPair = "ami-2", 80, "" })
	if got, err := other.Launch(t.Context(), again, "hello secret"); err != nil || got != id {
		t.Errorf("repeated: got %s %v, want no error and %v", got, err, id)
	}
	if n := len(srv.Machines()); n != 1 || len(srv.Wrongs()) > 0 {
		t.Errorf("%d machines, %v, want n 1 and no srv.Wrongs()", n, srv.Wrongs())
	}
}

func TestFreezeWalksThePlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ec2test.New(ec2test.Config{})
		c := open(t, srv, nil)
		var walked []string
		for n := 1; n <= 4; n++ {
			s, err := c.Freeze(plan(n))
			if err != nil {
				t.Fatal(err)
			}
			walked = append(walked, s.Type+" "+s.Subnet)
			srv.SetFull(s.Type, s.Subnet, true)
			_, err = c.Launch(t.Context(), s, s.UserData)
			var refused *machines.CallError
			if !errors.As(err, &refused) || refused.Verdict != instance.Another {
				t.Fatalf("got %v, want a refusal and refused.Verdict %v", err, instance.Another)
			}
			if last := n == 4; last != (refused.RetryAfter >= 30*time.Second) {
				t.Errorf("attempt %d waits %v, want to be (refused.RetryAfter >= 30*time.Second)", n, refused.RetryAfter)
			}
			time.Sleep(time.Second) // of the bubble
		}
		if want := "[t3.large subnet-a t3.large subnet-b t3a.large subnet-a t3a.large subnet-b]"; fmt.Sprint(walked) != want {
			t.Errorf("walked %v, want %v", walked, want)
		}
		first := func(c *ec2.Cloud, p machines.LaunchPlan) string {
			s, err := c.Freeze(p)
			if err != nil {
				t.Fatal(err)
			}
			return s.Type + " " + s.Subnet
		}
		if got := first(c, plan(5)); got != "t3.large subnet-a" {
			t.Errorf("all full: got %s, want \"t3.large subnet-a\"", got)
		}
		time.Sleep(10 * time.Minute)
		if got := first(c, plan(6)); got != "t3.large subnet-a" {
			t.Errorf("forgotten: %s, want \"t3.large subnet-a\"", got)
		}
		// Another replica takes over, and knows only what is in the log.
		p := plan(2)
		p.Refused, p.Last = "InsufficientInstanceCapacity", instance.Spec{Type: "t3.large", Subnet: "subnet-a"}
		if got := first(open(t, srv, nil), p); got != "t3.large subnet-b" {
			t.Errorf("after a restart: got %s, want \"t3.large subnet-b\"", got)
		}
	})
}

func TestFreezeRefuses(t *testing.T) {
	t.Parallel()
	srv := ec2test.New(ec2test.Config{})
	for name, c := range map[string]struct {
		plan   machines.LaunchPlan
		change func(*ec2.Config)
		never  bool
	}{
		"unknown type":    {machines.LaunchPlan{Type: "p5.48xlarge", ClientToken: "t"}, nil, true},
		"no client token": {machines.LaunchPlan{Type: "t3.large"}, nil, false},
		"long token":      {machines.LaunchPlan{Type: "t3.large", ClientToken: strings.Repeat("x", 65)}, nil, false},
		"long user data": {plan(1), func(c *ec2.Config) {
			c.UserData = func(machines.LaunchPlan) (string, error) { return strings.Repeat("x", 16<<10), nil }
		}, true},
		"no user data": {plan(1), func(c *ec2.Config) {
			c.UserData = func(machines.LaunchPlan) (string, error) { return "", errors.New("not known yet") }
		}, false},
		"bad user data": {plan(1), func(c *ec2.Config) {
			c.UserData = func(machines.LaunchPlan) (string, error) {
				return "", &machines.CallError{Verdict: instance.Never, Code: "bad_user_data"}
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := open(t, srv, c.change).Freeze(c.plan)
			var refused *machines.CallError
			if err == nil || errors.As(err, &refused) != c.never || c.never && refused.Verdict != instance.Never {
				t.Errorf("got %v, want an error that gives up: %v", err, c.never)
			}
		})
	}
}

// EC2 knows the token with another request, which only a bug or an operator can cause: the machine that was made
// with it belongs to the attempt.
func TestMismatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ec2test.New(ec2test.Config{Plan: ec2test.Plan{Unknown: ec2test.Span{Min: time.Minute}}})
		c := open(t, srv, nil)
		id, s := launch(t, c, plan(1))
		var refused *machines.CallError
		if _, err := c.Launch(t.Context(), s, "other"); !errors.As(err, &refused) || refused.Verdict != instance.Again {
			t.Errorf("while its machine is not visible: got %v, want a refusal and refused.Verdict %v", err, instance.Again)
		}
		time.Sleep(time.Minute)
		if got, err := c.Launch(t.Context(), s, "other"); err != nil || got != id {
			t.Errorf("got %s %v, want no error and %v", got, err, id)
		}
		if err := c.Terminate(t.Context(), id); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Hour)
		if _, err := c.Launch(t.Context(), s, "other"); !errors.As(err, &refused) || refused.Verdict != instance.Never {
			t.Errorf("long after its end: got %v, want a refusal and refused.Verdict %v", err, instance.Never)
		}
	})
}

func TestDescribeInBatches(t *testing.T) {
	t.Parallel()
	srv := ec2test.New(ec2test.Config{})
	c := open(t, srv, nil)
	tags := map[string]string{ec2.TagEnvironment: environment, ec2.TagInstance: "01X", ec2.TagAttempt: "7"}
	var ids []string
	for range 2400 {
		ids = append(ids, srv.Put("", tags))
	}
	untagged := srv.Put("", nil)
	other := srv.Put("", map[string]string{ec2.TagEnvironment: "other"})
	for _, row := range []struct {
		ids   []string
		calls int
		found int
	}{
		{ids[:1], 1, 1},
		{ids[:200], 1, 200},
		{append(slices.Clone(ids[:199]), "i-unknown"), 1, 199},
		{ids, 3, 2400},
		{append(slices.Clone(ids), untagged, "i-unknown"), 4, 2401},
	} {
		before := srv.Calls()["DescribeInstances"]
		list, err := c.Describe(t.Context(), row.ids)
		if calls := srv.Calls()["DescribeInstances"] - before; err != nil || len(list) != row.found || calls != row.calls {
			t.Errorf("of %d: got %d in %d calls, %v, want no error, len(list) %v and calls %v", len(row.ids), len(list), calls, err, row.found, row.calls)
		}
	}
	list, err := c.List(t.Context())
	if err != nil || len(list) != 2400 || list[0].Instance != "01X" || list[0].Attempt != 7 || list[0].Launched.IsZero() {
		t.Errorf("%d listed, %v, want no error, len(list) 2400, list[0].Instance \"01X\", list[0].Attempt 7 and list[0].Launched.IsZero() false", len(list), err)
	}
	for _, m := range list {
		if m.ID == untagged || m.ID == other {
			t.Errorf("%s is not ours, want m.ID other than %v and m.ID other than %v", m.ID, untagged, other)
		}
	}
}

// Throttling halves the pace, and success restores it.
func TestPaceAdapts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ec2test.New(ec2test.Config{})
		c := open(t, srv, func(c *ec2.Config) { c.Pace = ec2.Pace{Look: 10, Act: 10} })
		id, _ := launch(t, c, plan(1))
		took := func(n int) time.Duration {
			began := time.Now()
			for range n {
				_, _ = c.Describe(t.Context(), []string{id})
			}
			return time.Since(began)
		}
		took(40) // the burst
		free := took(20)
		srv.Script("DescribeInstances", many(4, ec2test.Fate{Code: "RequestLimitExceeded", Status: 503})...)
		slowed := took(10)
		took(100)
		if after := took(20); free > 3*time.Second || slowed < 3*time.Second || after > free+time.Second {
			t.Errorf("20 calls take %v; 10 while throttled %v; 20 afterwards %v, want free at most %v, slowed at least %v and after at most %v", free, slowed, after, 3*time.Second, 3*time.Second, free+time.Second)
		}
	})
}

// Reasons are for users and contain nothing of the operator's account.
func TestReasonsNameNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told strings.Builder
		srv := ec2test.New(ec2test.Config{})
		c := open(t, srv, func(c *ec2.Config) { c.Logger = slog.New(slog.NewTextHandler(&told, nil)) })
		for _, code := range []string{"UnauthorizedOperation", "InvalidAMIID.NotFound", "VcpuLimitExceeded", "InvalidGroup.NotFound", "Blocked", "RequestExpired", "InsufficientInstanceCapacity"} {
			srv.Script("RunInstances", ec2test.Fate{Code: code})
			s, err := c.Freeze(plan(1))
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Launch(t.Context(), s, "x")
			var refused *machines.CallError
			if !errors.As(err, &refused) || refused.Code != code || refused.Reason == "" || refused.Err == nil {
				t.Fatalf("%s: got %v, want a refusal, refused.Code %v, refused.Reason not empty and refused.Err other than nil", code, err, code)
			}
			for _, secret := range []string{"ami-", "subnet-", "sg-", "key-", "t3", "i-0", "AKTEST", code} {
				if strings.Contains(refused.Reason, secret) {
					t.Errorf("%s: %q names %s, want no %q in refused.Reason", code, refused.Reason, secret, secret)
				}
			}
			if forOperator := code != "InsufficientInstanceCapacity"; strings.Contains(told.String(), "code="+code) != forOperator {
				t.Errorf("%s: got a log line %v, want %v: %s", code, !forOperator, forOperator, told.String())
			}
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*ec2.Config){
		"a region": func(c *ec2.Config) { c.Region = "" }, "an environment id": func(c *ec2.Config) { c.Environment = "" },
		"an image": func(c *ec2.Config) { c.Image = "" }, "user data": func(c *ec2.Config) { c.UserData = nil },
	} {
		c := config(change)
		c.AWS = awsConfig(http.DefaultTransport)
		if _, err := ec2.New(t.Context(), c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: got %v, want an error and %q in err.Error()", name, err, name)
		}
	}
}

// Over a real network, with connections that are cut and a missing signature.
func TestOverHTTP(t *testing.T) {
	t.Parallel()
	ledger, err := os.Create(filepath.Join(t.TempDir(), "ledger.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	srv := ec2test.New(ec2test.Config{Ledger: ledger})
	web := httptest.NewUnstartedServer(srv)
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	web.Start()
	defer web.Close()
	c, err := ec2.New(t.Context(), config(func(c *ec2.Config) { c.Endpoint, c.AWS = web.URL, awsConfig(web.Client().Transport) }))
	if err == nil {
		_, err = c.Settle(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Freeze(plan(1))
	if err != nil {
		t.Fatal(err)
	}
	srv.Script("RunInstances", ec2test.Fate{Cut: true, Effect: true})
	var refused *machines.CallError
	if _, err := c.Launch(t.Context(), s, "x"); err == nil || errors.As(err, &refused) {
		t.Errorf("a cut connection: got %v, want an error and no refusal", err)
	}
	id, err := c.Launch(t.Context(), s, "x")
	if err != nil {
		t.Fatal(err)
	}
	srv.Script("StopInstances", ec2test.Fate{Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Stop(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no answer: got %v, want error %v", err, context.DeadlineExceeded)
	}
	list, err := c.Describe(t.Context(), []string{id})
	if err != nil || len(list) != 1 || list[0].Seen != instance.SeenRunning || list[0].Address == "" {
		t.Errorf("got %+v %v, want no error, len(list) 1, list[0].Seen %v and list[0].Address not empty", list, err, instance.SeenRunning)
	}
	if err := errors.Join(c.Stop(t.Context(), id), c.Start(t.Context(), id), c.Terminate(t.Context(), id)); err != nil {
		t.Error(err)
	}
	if err := c.Start(t.Context(), id); !errors.As(err, &refused) || refused.Code != "IncorrectInstanceState" {
		t.Errorf("start of a terminated machine: got %v, want a refusal and refused.Code \"IncorrectInstanceState\"", err)
	}
	res, err := web.Client().Post(web.URL, "application/x-www-form-urlencoded", strings.NewReader("Action=DescribeInstances&Version=2016-11-15"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a signature: got %s, want %v", res.Status, http.StatusUnauthorized)
	}
	text, err := os.ReadFile(ledger.Name())
	if lines := strings.Count(string(text), "\n"); err != nil || lines != len(srv.Ledger()) || lines < 3 || strings.Contains(string(text), "secret") {
		t.Errorf("%d lines, %v: %s, want no error, lines len(srv.Ledger()), lines at least 3 and no \"secret\" in string(text)", lines, err, text)
	}
}
