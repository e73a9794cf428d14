package ec2_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// A clock that steps by more than EC2 allows costs one try of a launch and of a start, and no machine.
func TestClockStepCostsOneTry(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]time.Duration{"back": 10 * time.Minute, "forward": -10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := ec2test.New(ec2test.Config{})
			c := open(t, srv, nil)
			s, err := c.Freeze(plan(1))
			if err != nil {
				t.Fatal(err)
			}
			var id string
			call := func() (err error) { id, err = c.Launch(t.Context(), s, s.UserData); return err }
			once := func(what string, calls string) {
				t.Helper()
				before := srv.Calls()[calls]
				err := call()
				var refused *machines.CallError
				if !errors.As(err, &refused) || refused.Verdict != instance.Again || refused.Code != "AuthFailure" || !strings.Contains(refused.Reason, "clocks differ") {
					t.Fatalf("%s: got %v, want a refusal, refused.Verdict %v, refused.Code \"AuthFailure\" and \"clocks differ\" in refused.Reason", what, err, instance.Again)
				}
				if err := call(); err != nil {
					t.Fatalf("%s, the next try: %v", what, err)
				}
				if n := srv.Calls()[calls] - before; n != 2 {
					t.Errorf("%s took %d calls, want 2", what, n)
				}
			}
			srv.SetClock(step)
			once("launch", "RunInstances")
			if n := len(srv.Machines()); n != 1 {
				t.Errorf("%d machines, want 1", n)
			}
			srv.SetClock(-step)
			call = func() error { return c.Start(t.Context(), id) }
			once("start", "StartInstances")
		})
	}
}

// A wrong key, or an image that is not ours, is not due to clocks: the instance fails with that reason.
func TestWrongKeyIsNoClock(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, err error) *machines.CallError {
		t.Helper()
		var call *machines.CallError
		if !errors.As(err, &call) {
			t.Fatalf("got %v, want a refusal", err)
		}
		return call
	}
	fate := func(code string) ec2test.Fate { return ec2test.Fate{Code: code, Status: 401} }
	for _, code := range []string{"AuthFailure", "SignatureDoesNotMatch", "InvalidSignature"} {
		srv := ec2test.New(ec2test.Config{})
		c := open(t, srv, nil)
		s, err := c.Freeze(plan(1))
		if err != nil {
			t.Fatal(err)
		}
		srv.Script("RunInstances", fate(code))
		srv.Script("DescribeInstances", fate(code))
		_, err = c.Launch(t.Context(), s, s.UserData)
		if call := refused(t, err); call.Verdict != instance.Never || strings.Contains(call.Reason, "clock") {
			t.Errorf("%s of a wrong key: got %+v, want call.Verdict %v and no \"clock\" in call.Reason", code, call, instance.Never)
		}
		// EC2 accepts the credentials for looks, and refuses them for each launch.
		tries := 0
		for srv.Script("RunInstances", fate(code)); ; srv.Script("RunInstances", fate(code)) {
			tries++
			if _, err = c.Launch(t.Context(), s, s.UserData); refused(t, err).Verdict == instance.Never || tries == 10 {
				break
			}
		}
		if call := refused(t, err); tries != 4 || strings.Contains(call.Reason, "clock") {
			t.Errorf("%s of an image that is not ours: after %d tries %+v, want tries 4 and no \"clock\" in call.Reason", code, tries, call)
		}
	}
}
