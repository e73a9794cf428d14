package ec2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

const (
	batch = 200  // most values in a filter
	page  = 1000 // most machines in an answer
)

// Describe implements machines.Cloud. It makes one call for up to 200 machines. For more, it reads the pages of all
// machines with our tag, and makes further calls for those without it.
func (c *Cloud) Describe(ctx context.Context, ids []string) ([]machines.Machine, error) {
	var list []machines.Machine
	if len(ids) > batch {
		asked := make(map[string]bool, len(ids))
		for _, id := range ids {
			asked[id] = true
		}
		err := c.each(ctx, []types.Filter{filter("tag:"+TagEnvironment, c.cfg.Environment)}, page, func(i types.Instance) {
			if m := c.machine(i); asked[m.ID] {
				list = append(list, m)
				delete(asked, m.ID)
			}
		})
		if err != nil {
			return nil, err
		}
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !asked[id] })
	}
	for some := range slices.Chunk(ids, batch) {
		// A filter, not a list of ids: an unknown id would fail the whole call.
		err := c.each(ctx, []types.Filter{filter("instance-id", some...)}, 0, func(i types.Instance) { list = append(list, c.machine(i)) })
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// List implements machines.Inventory.
func (c *Cloud) List(ctx context.Context) ([]machines.Tagged, error) {
	var list []machines.Tagged
	err := c.each(ctx, []types.Filter{filter("tag:"+TagEnvironment, c.cfg.Environment)}, page, func(i types.Instance) {
		tags := map[string]string{}
		for _, t := range i.Tags {
			tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
		if tags[TagEnvironment] != c.cfg.Environment {
			return // not ours, although the server listed it
		}
		attempt, _ := strconv.Atoi(tags[TagAttempt])
		list = append(list, machines.Tagged{
			Machine: c.machine(i), Instance: tags[TagInstance], Attempt: attempt, Account: tags[TagAccount], Token: aws.ToString(i.ClientToken), Type: string(i.InstanceType),
		})
	})
	return list, err
}

// each calls f for every machine that passes the filters. size is the size of a page; 0: all in one.
func (c *Cloud) each(ctx context.Context, filters []types.Filter, size int32, f func(types.Instance)) error {
	in := &ec2.DescribeInstancesInput{Filters: filters}
	if size > 0 {
		in.MaxResults = &size
	}
	for pages := 0; ; pages++ {
		out, err := ask(ctx, c.look, c.api.DescribeInstances, in)
		if err != nil {
			return fmt.Errorf("describe machines: %w", c.refusal("describe", err))
		}
		for _, r := range out.Reservations {
			for _, i := range r.Instances {
				f(i)
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		if pages == 1000 {
			return errors.New("describe machines: more than 1000 pages")
		}
		in.NextToken = out.NextToken
	}
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}

// machine returns what EC2 reports. The time in the report of a terminated machine is that of its termination; its run ended
// then only if it ran until then, as the answer to our own call said.
func (c *Cloud) machine(i types.Instance) machines.Machine {
	m := machines.Machine{ID: aws.ToString(i.InstanceId), Seen: instance.SeenPending, Launched: made(i), Started: aws.ToTime(i.LaunchTime).UTC()}
	if i.LaunchTime == nil {
		m.Started = time.Time{}
	}
	if i.State == nil {
		return m
	}
	switch i.State.Name {
	case types.InstanceStateNameRunning:
		m.Seen, m.Address = instance.SeenRunning, aws.ToString(i.PublicIpAddress)
	case types.InstanceStateNameStopping:
		m.Seen = instance.SeenStopping
	case types.InstanceStateNameStopped:
		m.Seen, m.Reason, m.Ended = instance.SeenStopped, because(i, stops), ended(aws.ToString(i.StateTransitionReason))
	case types.InstanceStateNameTerminated:
		m.Seen, m.Reason, m.Ended = instance.SeenGone, because(i, endings), ended(aws.ToString(i.StateTransitionReason))
		if !c.ranToTheEnd(m.ID) {
			m.Ended = time.Time{}
		}
	}
	return m
}

// ended returns the time in the reason of a state's change: "User initiated (2026-11-28 09:00:00 GMT)". EC2 bills a machine
// until then, also while it is still stopping. Many reasons have no time, and some machines have no reason.
func ended(reason string) time.Time {
	begin, end := strings.LastIndexByte(reason, '('), strings.LastIndexByte(reason, ')')
	if begin < 0 || end < begin {
		return time.Time{}
	}
	text := reason[begin+1 : end]
	for _, zone := range []string{" GMT", " UTC"} {
		if clock, ok := strings.CutSuffix(text, zone); ok {
			at, err := time.Parse(time.DateTime, clock)
			if err == nil {
				return at
			}
		}
	}
	return time.Time{}
}

// made returns when a machine was made. EC2's launch time is that of the latest start; the first network interface is
// attached once, when the machine is made.
func made(i types.Instance) time.Time {
	at := aws.ToTime(i.LaunchTime)
	for _, n := range i.NetworkInterfaces {
		if n.Attachment != nil && aws.ToInt32(n.Attachment.DeviceIndex) == 0 && n.Attachment.AttachTime != nil && n.Attachment.AttachTime.Before(at) {
			at = *n.Attachment.AttachTime
		}
	}
	return at
}

// because returns the sentence that says why a machine is in its state; "": a user or operator wanted it.
func because(i types.Instance, sentences map[string]string) string {
	if i.StateReason == nil {
		return ""
	}
	return sentences[aws.ToString(i.StateReason.Code)]
}

// stops holds the sentences for users when EC2 stopped a machine on its own, or undid its start.
var stops = map[string]string{
	"Server.InsufficientInstanceCapacity": "The cloud has no capacity to start the machine; try again later.",
	"Server.InternalError":                "The cloud had an internal error and stopped the machine; start it again.",
	"Server.ScheduledStop":                "The cloud stopped the machine to retire its hardware; start it again to move it to other hardware.",
	"Client.InternalError":                "The machine's disk could not be used; the operator must check its encryption key.",
	"Client.VolumeLimitExceeded":          "The service has reached its disk space limit; the operator must raise it.",
}

// endings holds the sentences for users when EC2 terminated a machine on its own.
var endings = map[string]string{
	"Server.InsufficientInstanceCapacity": "The cloud had no capacity for the machine; create another.",
	"Server.InternalError":                "The cloud had an internal error and terminated the machine; create another.",
	"Server.ScheduledStop":                "The cloud terminated the machine to retire its hardware; create another.",
	"Server.SpotInstanceTermination":      "The cloud took the machine back; create another.",
	"Client.InternalError":                "The machine's disk could not be created; the operator must check its image and encryption key.",
	"Client.InvalidSnapshot.NotFound":     "The machine's disk could not be created; the operator must check its image.",
	"Client.VolumeLimitExceeded":          "The service has reached its disk space limit; the operator must raise it.",
}
