package ec2

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Launch implements machines.Cloud.
func (c *Cloud) Launch(ctx context.Context, s instance.Spec, userData string) (string, error) {
	out, err := ask(ctx, c.act, c.api.RunInstances, request(s, userData))
	if err == nil {
		c.sure(s.ClientToken)
		if len(out.Instances) != 1 {
			return "", fmt.Errorf("launch: got %d machines, want 1", len(out.Instances))
		}
		return aws.ToString(out.Instances[0].InstanceId), nil
	}
	code, r, answered := answer(err)
	if r.full {
		c.full.note(place{s.Type, s.Subnet}, time.Now())
	}
	err = c.refusal("launch", err, "client_token", s.ClientToken, "type", s.Type, "subnet", s.Subnet)
	if !answered || r.verdict == instance.Again && code != codeMismatch {
		return "", err
	}
	return c.secondThoughts(ctx, s, err)
}

const codeMismatch = "IdempotentParameterMismatch"

// secondThoughts looks for the attempt's machine before it believes a refusal that ends the attempt. An earlier
// call may have made the machine although its answer was lost, and EC2 checks rights and parameters before it
// looks at client tokens.
func (c *Cloud) secondThoughts(ctx context.Context, s instance.Spec, refusal error) (string, error) {
	var call *machines.CallError
	errors.As(refusal, &call)
	id, err := c.find(ctx, s)
	switch _, r, answered := answer(err); {
	case id != "":
		c.log.Warn("launch refused although its machine exists", "machine", id, "client_token", s.ClientToken, "err", refusal)
		return id, nil
	case err != nil && (!answered || r.verdict == instance.Again):
		return "", refused(instance.Again, call.Code, call.Reason, errors.Join(refusal, fmt.Errorf("look for its machine: %w", err)))
	case err == nil:
		c.doubt(s.ClientToken, call)
	}
	switch {
	case call.Code == codeMismatch && c.gaveUp(s.ClientToken, time.Now()):
		call.Verdict = instance.Never
	case call.Verdict == instance.Another && c.allFull(s):
		call.RetryAfter = c.jittered(30 * time.Second)
	}
	return "", call
}

// gaveUp reports whether the token's machine has been missing for so long that it must be gone.
func (c *Cloud) gaveUp(token string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, known := c.strange[token]
	if !known {
		c.strange[token], since = now, now
	}
	if now.Sub(since) < instance.MissingGrace {
		return false
	}
	delete(c.strange, token)
	return true
}

func (c *Cloud) allFull(s instance.Spec) bool {
	i := slices.IndexFunc(c.cfg.Types, func(t Type) bool { return t.ID == s.Type || slices.Contains(t.Instead, s.Type) })
	return i >= 0 && c.full.all(c.places(c.cfg.Types[i]), time.Now())
}

// find returns the machine that was made with the launch's client token; "": none is visible. It filters by the
// launch's own tag, because the environment may have been renamed since.
func (c *Cloud) find(ctx context.Context, s instance.Spec) (string, error) {
	out, err := ask(ctx, c.look, c.api.DescribeInstances, &ec2.DescribeInstancesInput{Filters: []types.Filter{
		filter("client-token", s.ClientToken), filter("tag:"+TagEnvironment, s.Tags[TagEnvironment]),
	}})
	if err != nil {
		return "", err
	}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			return aws.ToString(i.InstanceId), nil
		}
	}
	return "", nil
}

// request returns the whole request of a launch, from the Spec alone and always in the same order: EC2 compares
// repeated requests.
func request(s instance.Spec, userData string) *ec2.RunInstancesInput {
	in := &ec2.RunInstancesInput{
		ClientToken: &s.ClientToken, ImageId: &s.Image, InstanceType: types.InstanceType(s.Type),
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(userData))),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: &s.RootDevice,
			Ebs: &types.EbsBlockDevice{
				VolumeSize: aws.Int32(int32(s.VolumeGiB)), VolumeType: types.VolumeTypeGp3,
				Encrypted: aws.Bool(true), DeleteOnTermination: aws.Bool(true),
			},
		}},
		MetadataOptions: &types.InstanceMetadataOptionsRequest{
			HttpTokens: types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(1),
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
		},
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorStop,
	}
	set := func(field **string, value string) {
		if value != "" {
			*field = &value
		}
	}
	set(&in.SubnetId, s.Subnet)
	set(&in.KeyName, s.KeyPair)
	if s.SecurityGroup != "" {
		in.SecurityGroupIds = []string{s.SecurityGroup}
	}
	var tags []types.Tag
	for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
		tags = append(tags, types.Tag{Key: &key, Value: aws.String(s.Tags[key])})
	}
	for _, kind := range []types.ResourceType{types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface} {
		in.TagSpecifications = append(in.TagSpecifications, types.TagSpecification{ResourceType: kind, Tags: tags})
	}
	return in
}
