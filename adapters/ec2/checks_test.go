package ec2_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
)

func TestChecks(t *testing.T) {
	t.Parallel()
	denied := ec2test.Fate{Code: "UnauthorizedOperation", Status: 403}
	for name, c := range map[string]struct {
		change func(*ec2.Config)
		cloud  func(*ec2test.Server)
		bad    map[string]string // the text of each check that fails
	}{
		"all is well":    {},
		"nothing is set": {change: func(c *ec2.Config) { c.Subnets, c.SecurityGroup, c.KeyPair = nil, "", "" }, bad: map[string]string{"EC2 group": "note: EC2_SECURITY_GROUP_ID"}},
		"nothing is there": {change: func(c *ec2.Config) {
			c.Image, c.Subnets, c.SecurityGroup, c.KeyPair = "ami-missing", []string{"subnet-a", "subnet-missing"}, "sg-missing", "missing"
		}, bad: map[string]string{"EC2 image": "UBUNTU_AMI_ID", "EC2 subnets": "EC2_SUBNET_ID", "EC2 group": "EC2_SECURITY_GROUP_ID", "EC2 key pair": "EC2_KEY_PAIR_NAME", "EC2 launch": "not tried"}},
		"the image is too large": {cloud: func(s *ec2test.Server) { s.SetImage("ami-1", ec2test.Image{GiB: 100}) },
			bad: map[string]string{"EC2 image": "EC2_VOLUME_GIB", "EC2 launch": "not tried"}},
		"an open group": {cloud: func(s *ec2test.Server) { s.SetOpen("sg-1") }, bad: map[string]string{"EC2 group": "note: sg-1 has 1 inbound rules"}},
		"wrong credentials": {cloud: func(s *ec2test.Server) {
			s.Script("DescribeInstances", ec2test.Fate{Code: "AuthFailure", Status: 401})
		}, bad: map[string]string{"EC2 access": "correct the credentials"}},
		"no right to look": {cloud: func(s *ec2test.Server) {
			for _, action := range []string{"DescribeInstances", "DescribeImages", "DescribeSubnets", "DescribeSecurityGroups", "DescribeKeyPairs"} {
				s.Script(action, denied)
			}
		}, bad: map[string]string{"EC2 access": "ec2:DescribeInstances (deploy/iam-policy.json)", "EC2 image": "iam-policy.json", "EC2 subnets": "ec2:DescribeSubnets",
			"EC2 group": "ec2:DescribeSecurityGroups", "EC2 key pair": "ec2:DescribeKeyPairs", "EC2 launch": "not tried"}},
		"no right to launch": {cloud: func(s *ec2test.Server) { s.Script("RunInstances", denied) }, bad: map[string]string{"EC2 launch": "ec2:RunInstances"}},
		"launches are not right": {cloud: func(s *ec2test.Server) {
			s.Script("RunInstances", ec2test.Fate{Code: "DryRunOperation", Status: 412}, ec2test.Fate{Code: "InvalidParameterValue"})
		}, bad: map[string]string{"EC2 launch": "InvalidParameterValue"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := ec2test.New(ec2test.Config{})
			if c.cloud != nil {
				c.cloud(srv)
			}
			for _, check := range unsettled(t, srv, c.change).Checks() {
				note, err := check.Do(t.Context())
				said := fmt.Sprint(err)
				if errors.As(err, new(ec2.Remark)) {
					said = "note: " + said
				}
				if want := c.bad[check.Name]; (err == nil) != (want == "") || err != nil && !strings.Contains(said, want) {
					t.Errorf("%s: got %q, %s, want %q", check.Name, note, said, want)
				} else if (err == nil) != (note != "") || strings.Contains(said, "https response error") {
					t.Errorf("%s says %q and %v, want (err == nil) to be (note != \"\") and no \"https response error\" in said", check.Name, note, err)
				}
			}
			if len(srv.Machines()) > 0 {
				t.Error("a dry run launched a machine")
			}
		})
	}
}
