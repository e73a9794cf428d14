package ec2

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Start implements machines.Cloud.
func (c *Cloud) Start(ctx context.Context, machine string) error {
	c.settled(machine)
	_, err := ask(ctx, c.act, c.api.StartInstances, &ec2.StartInstancesInput{InstanceIds: []string{machine}})
	if err == nil {
		c.sure(machine)
		return nil
	}
	err = c.refusal("start", err, "machine", machine)
	var call *machines.CallError
	switch {
	case !errors.As(err, &call):
	case call.Verdict == instance.Another:
		// The disk stays in its zone, so the machine can start only there.
		call.Verdict, call.Reason, call.RetryAfter = instance.Again, saysNotStarts, c.jittered(20*time.Second)
	case table[call.Code].clock:
		if _, err := c.Describe(ctx, []string{machine}); err == nil {
			c.doubt(machine, call)
		}
	}
	return err
}

// forceAfter is how long a machine may take to stop before it is forced. It is longer than the agent's
// TimeoutStopSec in guest/install/units.
const forceAfter = 7 * time.Minute

// Stop implements machines.Cloud. If an earlier call has had no effect for minutes, it forces the machine to
// stop, as a power cut would, and returns an error that says so.
func (c *Cloud) Stop(ctx context.Context, machine string) error {
	out, err := ask(ctx, c.act, c.api.StopInstances, &ec2.StopInstancesInput{InstanceIds: []string{machine}})
	if err != nil {
		return c.refusal("stop", err, "machine", machine)
	}
	again := len(out.StoppingInstances) == 1 && was(out.StoppingInstances[0], types.InstanceStateNameStopping)
	if !c.overdue(machine, again, time.Now()) {
		return nil
	}
	c.log.Warn("machine slow to stop, forced", "machine", machine)
	_, err = ask(ctx, c.act, c.api.StopInstances, &ec2.StopInstancesInput{InstanceIds: []string{machine}, Force: aws.Bool(true)})
	if err != nil {
		return c.refusal("stop", err, "machine", machine)
	}
	return &machines.CallError{
		Verdict: instance.Again, Code: "stop_forced", RetryAfter: time.Minute,
		Reason: "The machine is slow to stop and is being forced to stop.", Err: errors.New("still stopping"),
	}
}

func was(change types.InstanceStateChange, state types.InstanceStateName) bool {
	return change.PreviousState != nil && change.PreviousState.Name == state
}

// overdue reports whether a machine that is still stopping was asked to stop long ago. It remembers the time only
// in this process; after a restart the wait begins again.
func (c *Cloud) overdue(machine string, again bool, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, known := c.stopping[machine]
	if !again || !known {
		c.stopping[machine] = now
	}
	return again && known && now.Sub(since) >= forceAfter
}

// settled forgets that the machine was asked to stop.
func (c *Cloud) settled(machine string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.stopping, machine)
}

// Terminate implements machines.Cloud.
func (c *Cloud) Terminate(ctx context.Context, machine string) error {
	c.settled(machine)
	out, err := ask(ctx, c.act, c.api.TerminateInstances, &ec2.TerminateInstancesInput{InstanceIds: []string{machine}})
	if err != nil {
		c.terminated(machine, "")
		return c.refusal("terminate", err, "machine", machine)
	}
	if len(out.TerminatingInstances) == 1 && out.TerminatingInstances[0].PreviousState != nil {
		c.terminated(machine, out.TerminatingInstances[0].PreviousState.Name)
	}
	return nil
}

// terminated notes the state that a terminate call ended; "": unknown.
func (c *Cloud) terminated(machine string, was types.InstanceStateName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch was {
	case types.InstanceStateNameShuttingDown, types.InstanceStateNameTerminated: // an earlier call ended it
	case types.InstanceStateNameRunning:
		now := time.Now()
		maps.DeleteFunc(c.ended, func(_ string, at time.Time) bool { return now.Sub(at) > endedFor })
		c.ended[machine] = now
	default:
		delete(c.ended, machine)
	}
}

// endedFor is longer than EC2 lists a machine that is terminated.
const endedFor = 3 * time.Hour

// ranToTheEnd reports whether the machine ran until this process terminated it.
func (c *Cloud) ranToTheEnd(machine string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.ended[machine]
	return ok
}
