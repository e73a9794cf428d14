package ec2

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Check is a check of the cloud's configuration for operators. An error says what to do; a Remark prevents
// nothing from working.
type Check struct {
	Name string
	Do   func(ctx context.Context) (note string, err error)
}

// Remark is an error that says what could be better.
type Remark string

func (r Remark) Error() string { return string(r) }

// policy is the file that lists the rights.
const policy = "deploy/iam-policy.json"

// Checks lists the checks that need no machine, in the order in which to run them.
func (c *Cloud) Checks() []Check {
	vpc := "" // of the subnets
	return []Check{
		{"EC2 access", c.checkAccess},
		{"EC2 image", func(ctx context.Context) (string, error) {
			i, err := c.Settle(ctx)
			if err != nil {
				return "", inShort(err)
			}
			return fmt.Sprintf("%s: %s, %d GiB at %s; machines get %d GiB", c.cfg.Image, i.Arch, i.DiskGiB, i.Root, c.cfg.VolumeGiB), nil
		}},
		{"EC2 subnets", func(ctx context.Context) (note string, err error) {
			vpc, note, err = c.checkSubnets(ctx)
			return note, err
		}},
		{"EC2 group", func(ctx context.Context) (string, error) { return c.checkGroup(ctx, vpc) }},
		{"EC2 key pair", c.checkKeyPair},
		{"EC2 launch", c.checkLaunch},
	}
}

func (c *Cloud) checkAccess(ctx context.Context) (string, error) {
	found, err := c.api.Options().Credentials.Retrieve(ctx)
	if err != nil {
		return "", fmt.Errorf("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or attach a role to this computer: %w", err)
	}
	_, err = ask(ctx, c.look, c.api.DescribeInstances, &ec2.DescribeInstancesInput{MaxResults: aws.Int32(5)})
	if err != nil {
		return "", advice(err, "DescribeInstances", "correct the credentials (from "+found.Source+") or AWS_REGION")
	}
	return "credentials from " + found.Source + " work in " + c.cfg.Region, nil
}

func (c *Cloud) checkSubnets(ctx context.Context) (vpc, note string, err error) {
	if c.cfg.Subnets[0] == "" {
		return "", "none set: the default VPC chooses", nil
	}
	out, err := ask(ctx, c.look, c.api.DescribeSubnets, &ec2.DescribeSubnetsInput{SubnetIds: c.cfg.Subnets})
	if err != nil {
		return "", "", advice(err, "DescribeSubnets", "correct EC2_SUBNET_ID")
	}
	var notes, full []string
	for _, s := range out.Subnets {
		id, free := aws.ToString(s.SubnetId), aws.ToInt32(s.AvailableIpAddressCount)
		if notes = append(notes, fmt.Sprintf("%s with %d free addresses", id, free)); free == 0 {
			full = append(full, id)
		}
		if other := aws.ToString(s.VpcId); vpc != "" && other != vpc {
			return vpc, "", fmt.Errorf("the subnets belong to two VPCs, %s and %s, and one security group cannot serve both: correct EC2_SUBNET_ID", vpc, other)
		}
		vpc = aws.ToString(s.VpcId)
	}
	if len(full) > 0 {
		return vpc, "", Remark("no free address in " + strings.Join(full, ", ") + ": add another subnet to EC2_SUBNET_ID")
	}
	return vpc, strings.Join(notes, ", "), nil
}

func (c *Cloud) checkGroup(ctx context.Context, vpc string) (string, error) {
	if c.cfg.SecurityGroup == "" {
		return "", Remark("EC2_SECURITY_GROUP_ID is empty, so machines use the VPC's default group: set it to a group without inbound rules")
	}
	out, err := ask(ctx, c.look, c.api.DescribeSecurityGroups, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{c.cfg.SecurityGroup}})
	switch {
	case err != nil:
		return "", advice(err, "DescribeSecurityGroups", "correct EC2_SECURITY_GROUP_ID")
	case len(out.SecurityGroups) == 0:
		return "", errors.New("EC2 has no such security group: correct EC2_SECURITY_GROUP_ID")
	}
	g := out.SecurityGroups[0]
	switch in := len(g.IpPermissions); {
	case vpc != "" && aws.ToString(g.VpcId) != vpc:
		return "", fmt.Errorf("%s belongs to VPC %s, and the subnets to %s: correct EC2_SECURITY_GROUP_ID or EC2_SUBNET_ID", c.cfg.SecurityGroup, aws.ToString(g.VpcId), vpc)
	case in > 0:
		return "", Remark(fmt.Sprintf("%s has %d inbound rules: remove them; machines only connect outwards", c.cfg.SecurityGroup, in))
	}
	return c.cfg.SecurityGroup + ", without inbound rules", nil
}

func (c *Cloud) checkKeyPair(ctx context.Context) (string, error) {
	if c.cfg.KeyPair == "" {
		return "none: machines have no SSH key", nil
	}
	if _, err := ask(ctx, c.look, c.api.DescribeKeyPairs, &ec2.DescribeKeyPairsInput{KeyNames: []string{c.cfg.KeyPair}}); err != nil {
		return "", advice(err, "DescribeKeyPairs", "correct EC2_KEY_PAIR_NAME, or leave it empty")
	}
	return c.cfg.KeyPair, nil
}

// checkLaunch makes a dry run of a launch in each subnet.
func (c *Cloud) checkLaunch(ctx context.Context) (string, error) {
	image, err := c.frozen()
	if err != nil {
		return "", errors.New("not tried without an image: see above")
	}
	for _, subnet := range c.cfg.Subnets {
		in := request(instance.Spec{
			ClientToken: "on-trial", Image: c.cfg.Image, Type: c.cfg.Types[0].ID, Subnet: subnet, SecurityGroup: c.cfg.SecurityGroup,
			KeyPair: c.cfg.KeyPair, RootDevice: image.Root, VolumeGiB: c.cfg.VolumeGiB, Tags: map[string]string{TagEnvironment: c.cfg.Environment},
		}, "#!/bin/sh\n")
		in.DryRun, in.ClientToken = aws.Bool(true), nil
		_, err := ask(ctx, c.act, c.api.RunInstances, in)
		if code, _, _ := answer(err); code != "DryRunOperation" {
			if err == nil {
				return "", errors.New("EC2 did not answer the dry run of a launch: the endpoint is not Amazon's")
			}
			return "", advice(err, "RunInstances and ec2:CreateTags", "correct what it names")
		}
	}
	return "allowed by a dry run; start, stop and terminate cannot be tried without a machine", nil
}

// advice turns EC2's error into one that says what to do.
func advice(err error, right, otherwise string) error {
	if code, _, _ := answer(err); code == "UnauthorizedOperation" {
		return fmt.Errorf("not allowed: grant these credentials ec2:%s (%s)", right, policy)
	}
	return fmt.Errorf("%w: %s", inShort(err), otherwise)
}

// inShort shortens an error: without the SDK's text, and without most of what EC2 encodes into its message.
func inShort(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return err
	}
	text := api.ErrorMessage()
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	if api.ErrorCode() == "UnauthorizedOperation" {
		return fmt.Errorf("not allowed: grant these credentials the rights in %s", policy)
	}
	return fmt.Errorf("%s: %s", api.ErrorCode(), text)
}
