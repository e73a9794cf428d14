package ec2

import (
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// maxDoubts is how often one call is retried although EC2 refuses its credentials. The SDK corrects its clock from
// each answer, so the next try succeeds unless there is another reason, such as an image that is not ours.
const maxDoubts = 3

// doubt turns a refusal of the credentials into a retry, because EC2 has accepted them in a later call. A clock
// that steps by more than five minutes causes one such refusal. what names the refused call, which is given up
// after a few tries.
func (c *Cloud) doubt(what string, call *machines.CallError) {
	if call.Verdict != instance.Never || !table[call.Code].clock {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doubts[what]++; c.doubts[what] > maxDoubts {
		delete(c.doubts, what)
		return
	}
	c.log.Warn("EC2 refused the credentials and then accepted them, will retry; check this server's clock", "call", what, "code", call.Code)
	call.Verdict, call.Reason = instance.Again, saysClock
}

// sure forgets the doubts about a call.
func (c *Cloud) sure(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.doubts, what)
}
