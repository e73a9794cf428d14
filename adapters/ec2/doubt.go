package ec2

import (
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// maxDoubts is how often one call is tried again although EC2 refuses its credentials: the SDK corrects its
// clock by each answer, so the next try passes unless the reason is another one, as an image that is not ours.
const maxDoubts = 3

// doubt turns a refusal of the credentials into another try: EC2 has accepted them in another call since.
// A clock that steps by more than five minutes makes EC2 refuse one call so. what names the call that was
// refused, which is given up after a few tries.
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
	c.log.Warn("EC2 refused the credentials and accepted them a moment later, trying again: check this server's clock", "call", what, "code", call.Code)
	call.Verdict, call.Reason = instance.Again, saysClock
}

// sure forgets the doubts about a call.
func (c *Cloud) sure(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.doubts, what)
}
