package operator

import (
	"context"
	"slices"
)

// Settle denies all approvals and cancels all questions that wait, because the gateway will be stopped: with one of them
// it would need minutes to stop. Until the next connection, new ones are denied, too.
func (o *Operator) Settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	o.mu.Lock()
	c, waiting := o.conn, slices.Clone(o.prompts)
	o.closing = c != nil
	o.mu.Unlock()
	if c == nil || len(waiting) == 0 {
		return
	}
	done := make(chan struct{}, len(waiting))
	for _, p := range waiting {
		settled := func(answer) {
			o.remove(p.kind, p.id, ending{})
			done <- struct{}{}
		}
		if o.deny(ctx, c, p, settled) != nil {
			return
		}
	}
	for range waiting {
		select {
		case <-done:
		case <-c.done:
			return
		case <-ctx.Done():
			o.log.Warn("the agent did not accept in time that its requests are denied")
			return
		}
	}
	o.log.Info("requests of the agent denied before it stops", "count", len(waiting))
}

func (o *Operator) deny(ctx context.Context, c *conn, p *prompt, then func(answer)) error {
	var params any = map[string]any{"id": p.id, "decision": "deny"}
	if p.kind == question {
		params = map[string]any{"id": p.id, "cancel": true}
	}
	return c.send(ctx, p.kind.resolve(), params, then)
}
