package ec2_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// unsettled returns a cloud that has not looked its image up yet.
func unsettled(t *testing.T, srv *ec2test.Server, change func(*ec2.Config)) *ec2.Cloud {
	t.Helper()
	c, err := ec2.New(t.Context(), config(func(c *ec2.Config) {
		c.Endpoint, c.AWS = "http://ec2.test", awsConfig(srv.Transport())
		if change != nil {
			change(c)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Debian's images name their disk differently from Ubuntu's. With the wrong name a machine would get a second disk,
// beside a small one that is not encrypted.
func TestRootDeviceIsTheImages(t *testing.T) {
	t.Parallel()
	srv := ec2test.New(ec2test.Config{})
	srv.SetImage("ami-1", ec2test.Image{Root: "/dev/xvda"})
	c := open(t, srv, nil)
	_, s := launch(t, c, plan(1))
	if l := srv.Machines()[0].Launch; s.RootDevice != "/dev/xvda" || l.Volume["DeviceName"] != "/dev/xvda" {
		t.Errorf("got %q; %v, want s.RootDevice \"/dev/xvda\" and l.Volume[\"DeviceName\"] \"/dev/xvda\"", s.RootDevice, l.Volume)
	}
	// A frozen request stays the same when another image follows.
	srv.SetImage("ami-2", ec2test.Image{})
	other := open(t, srv, func(c *ec2.Config) { c.Image = "ami-2" })
	if _, err := other.Launch(t.Context(), s, strings.ReplaceAll(s.UserData, machines.TokenPlaceholder, "secret")); err != nil || len(srv.Machines()) != 1 {
		t.Errorf("repeated: got %v, want no error and 1", err)
	}
}

func TestImagesThatDoNotFit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		image  ec2test.Image
		change func(*ec2.Config)
		says   string // in the error for the operator; "": the image fits
	}{
		"as it should be":         {ec2test.Image{}, nil, ""},
		"no such image":           {ec2test.Image{}, func(c *ec2.Config) { c.Image = "ami-missing" }, "UBUNTU_AMI_ID"},
		"larger than its machine": {ec2test.Image{GiB: 41}, nil, "EC2_VOLUME_GIB is 40: raise it to 41"},
		"just as large":           {ec2test.Image{GiB: 40}, nil, ""},
		"arm64 for x86":           {ec2test.Image{Arch: "arm64"}, nil, "arm64"},
		"arm64 for arm64": {ec2test.Image{Arch: "arm64"}, func(c *ec2.Config) {
			c.Types = []ec2.Type{{MachineType: machines.MachineType{ID: "t4g.large"}, Instead: []string{"m7gd.large", "im4gn.large", "a1.large"}}}
		}, ""},
		"x86 for arm64": {ec2test.Image{}, func(c *ec2.Config) {
			c.Types = []ec2.Type{{MachineType: machines.MachineType{ID: "g4dn.xlarge"}, Instead: []string{"g5g.xlarge"}}}
		}, "g5g.xlarge"},
		"without a disk": {ec2test.Image{Device: "instance-store"}, nil, "EBS"},
		"not there yet":  {ec2test.Image{State: "pending"}, nil, "pending"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := ec2test.New(ec2test.Config{})
			srv.SetImage("ami-1", c.image)
			cloud := unsettled(t, srv, c.change)
			_, err := cloud.Settle(t.Context())
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("settled: got %v, want %q in it", err, c.says)
			}
			p := plan(1)
			p.Type = cloud.Types()[0].ID
			_, err = cloud.Freeze(p)
			var refused *machines.CallError
			switch {
			case c.says == "":
				if err != nil {
					t.Error(err)
				}
			case !errors.As(err, &refused) || refused.Verdict != instance.Never || refused.Code != "image_unfit" || strings.Contains(refused.Reason, "ami"):
				t.Errorf("frozen: got %v, want image_unfit with verdict %s and no image id in the reason", err, instance.Never)
			}
		})
	}
}

// While EC2 does not answer, nothing is launched and nothing given up, unless the right to look is missing. Launches
// begin when EC2 answers.
func TestImageIsAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := ec2test.New(ec2test.Config{})
		srv.SetImage("ami-1", ec2test.Image{Arch: "arm64"})
		srv.Script("DescribeImages", ec2test.Fate{Cut: true}, ec2test.Fate{Hang: true},
			ec2test.Fate{Code: "InternalError", Status: 500}, ec2test.Fate{Code: "UnauthorizedOperation", Status: 403}, ec2test.Fate{Code: "UnauthorizedOperation", Status: 403})
		var log bytes.Buffer
		c := unsettled(t, srv, func(c *ec2.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		ended := make(chan error, 1)
		go func() { ended <- c.Run(t.Context()) }()
		for range 5 {
			synctest.Wait()
			before := time.Now()
			var refused *machines.CallError
			looks := srv.Calls()["DescribeImages"]
			// Waiting helps with everything except the missing right.
			if _, err := c.Freeze(plan(1)); err == nil || errors.As(err, &refused) != (looks > 3) || time.Since(before) > 0 {
				t.Errorf("after %d looks: got %v, want an error, errors.As(err, &refused) to be (looks > 3) and time.Since(before) at most 0", looks, err)
			}
			for looks := srv.Calls()["DescribeImages"]; looks < 6 && srv.Calls()["DescribeImages"] == looks; {
				time.Sleep(time.Second) // of the bubble
			}
		}
		synctest.Wait()
		if _, err := c.Freeze(plan(1)); err == nil || !strings.Contains(err.Error(), "image_unfit") {
			t.Errorf("an image of another architecture: got %v, want an error and \"image_unfit\" in err.Error()", err)
		}
		srv.SetImage("ami-1", ec2test.Image{}) // the operator fixes the image
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := c.Freeze(plan(1)); err != nil {
			t.Error(err)
		}
		if text := log.String(); strings.Count(text, "grant this server ec2:DescribeImages") != 1 || !strings.Contains(text, "takes x86_64") {
			t.Errorf("got the log below, want the missing right once, and the architecture\n%s", text)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := unsettled(t, srv, nil).Run(ctx); err != nil {
			t.Errorf("ended: %v", err)
		}
	})
}
