package operator

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// While the user has mouse and keyboard, the operator keeps the gateway's computer for itself: the agent's computer tool
// then answers COMPUTER_HOST_BUSY. The gateway gives it only between runs.
const (
	leaseEvery  = 2 * time.Minute  // between renewals; the gateway ends an unused one after five
	leaseAgain  = 2 * time.Second  // after a refusal: a run still uses the computer
	leaseLater  = 15 * time.Second // after another failure: there is no computer, or it does not work
	leaseWithin = 45 * time.Second // for an answer: the gateway may start a process for it
)

// lease is an execution of our own on the gateway's computer.
type lease struct {
	c          *conn
	generation string
	execution  string
	used       time.Time
}

var errBusy = errors.New("a run uses the computer")

// keepLease takes and ends leases until ctx ends.
func (o *Operator) keepLease(ctx context.Context) {
	var held *lease
	var refused *conn   // the connection over which the latest try failed
	var again time.Time // when the next try over it is due
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return // the gateway ends it with the connection
		case <-o.leasing:
		case <-timer.C:
		}
		o.mu.Lock()
		wanted, c := o.control.held(), o.conn
		o.mu.Unlock()
		if held != nil && held.c != c {
			held = nil
			o.leased(false)
		}
		pause := time.Hour
		switch {
		case !wanted:
			if held != nil {
				held.close(ctx)
				held = nil
			}
		case c == nil:
			pause = leaseAgain
		case held == nil && c == refused && time.Now().Before(again):
			pause = time.Until(again)
		case held == nil || time.Since(held.used) >= leaseEvery:
			l, err := held.take(ctx, c)
			held, pause, refused = l, leaseEvery, nil
			if err != nil {
				o.log.Debug("the agent's computer was not leased", "err", err)
				pause = leaseLater
				if errors.Is(err, errBusy) {
					pause = leaseAgain
				}
				refused, again = c, time.Now().Add(pause)
			}
			o.leased(l != nil)
		default:
			pause = min(leaseEvery-time.Since(held.used), leaseLater) // the connection may have ended
		}
		timer.Reset(pause)
	}
}

// leased notes whether the computer is leased.
func (o *Operator) leased(yes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.control.held() && o.control.leased != yes {
		o.control.leased = yes
		o.controlChanged()
	}
}

// take returns the lease taken or renewed; l may be nil.
func (l *lease) take(ctx context.Context, c *conn) (*lease, error) {
	if l == nil {
		var status struct {
			ComputerUse struct{ Provider struct{ Generation string } }
		}
		payload, err := ask(ctx, c, "computer.status", struct{}{})
		if err != nil {
			return nil, err
		}
		if json.Unmarshal(payload, &status) != nil || status.ComputerUse.Provider.Generation == "" {
			return nil, errors.New("the agent has no computer")
		}
		l = &lease{c: c, generation: status.ComputerUse.Provider.Generation, execution: uuid()}
	}
	err := l.invoke(ctx, "screen.snapshot", map[string]any{"executionId": l.execution, "maxWidth": 64})
	if err != nil {
		return nil, err
	}
	l.used = time.Now()
	return l, nil
}

func (l *lease) close(ctx context.Context) {
	_ = l.invoke(ctx, "computer.act", map[string]any{"action": "__close_execution", "executionId": l.execution})
}

func (l *lease) invoke(ctx context.Context, command string, params map[string]any) error {
	_, err := ask(ctx, l.c, "computer.invoke", map[string]any{
		"command": command, "params": params, "generation": l.generation, "idempotencyKey": uuid(),
	})
	return err
}

// ask sends a request and waits longer than call does.
func ask(ctx context.Context, c *conn, method string, params any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseWithin)
	defer cancel()
	got := make(chan answer, 1)
	if err := c.send(ctx, method, params, func(a answer) { got <- a }); err != nil {
		return nil, err
	}
	select {
	case a := <-got:
		if a.ok {
			return a.payload, nil
		}
		var f struct{ Message string }
		_ = json.Unmarshal(a.failure, &f)
		if strings.Contains(f.Message, "COMPUTER_HOST_BUSY") {
			return nil, errBusy
		}
		return nil, fmt.Errorf("%s: %.200q", method, f.Message)
	case <-c.done:
		return nil, errNotConnected
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// uuid returns a random one of version 4.
func uuid() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
