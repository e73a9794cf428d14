package operator

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Gate refuses the agent's mouse and key events. A hold ends by itself, even if the guest does not live to see it.
type Gate interface {
	Hold(d time.Duration) error // from now on for d; 0: no longer
	Held() time.Duration        // how long that still lasts; 0: they are not refused
}

// control is who uses mouse and keyboard; Operator.mu guards it.
type control struct {
	since, until time.Time   // of the user's hold; zero: the agent may use them
	leased       bool        // see wire.Control
	end          *time.Timer // at until
}

func (c *control) held() bool { return !c.since.IsZero() }

// told returns it as the control plane gets it.
func (c *control) told() wire.Control {
	if !c.held() {
		return wire.Control{Holder: wire.HolderAgent}
	}
	return wire.Control{Holder: wire.HolderUser, Since: c.since.UnixMilli(), Until: c.until.UnixMilli(), Leased: c.leased}
}

// take gives mouse and keyboard to the user for d.
func (o *Operator) take(d time.Duration) (wire.Control, error) {
	o.turn.Lock()
	defer o.turn.Unlock()
	if err := o.c.Gate.Hold(d); err != nil {
		return wire.Control{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.holds(d), nil
}

// holds notes that the user holds them for d; o.mu is held.
func (o *Operator) holds(d time.Duration) wire.Control {
	now := time.Now()
	if !o.control.held() {
		o.control.since = now
		o.log.Info("mouse and keyboard taken by the user")
	}
	o.control.until = now.Add(d)
	if o.control.end == nil {
		o.control.end = time.AfterFunc(d, o.expire)
	} else {
		o.control.end.Reset(d)
	}
	return o.controlChanged()
}

// give gives them back to the agent.
func (o *Operator) give() (wire.Control, error) {
	o.turn.Lock()
	defer o.turn.Unlock()
	return o.giveNow("given back")
}

// expire gives them back if the user has not renewed the hold.
func (o *Operator) expire() {
	o.turn.Lock()
	defer o.turn.Unlock()
	o.mu.Lock()
	over := o.control.held() && !time.Now().Before(o.control.until)
	o.mu.Unlock()
	if !over {
		return
	}
	if _, err := o.giveNow("idle"); err != nil {
		o.log.Warn("the agent does not get mouse and keyboard back yet", "err", err)
	}
}

// giveNow does it; o.turn is held.
func (o *Operator) giveNow(why string) (wire.Control, error) {
	err := o.c.Gate.Hold(0)
	if err != nil && o.c.Gate.Held() > 0 {
		return wire.Control{}, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.control.held() {
		return o.control.told(), nil
	}
	o.log.Info("mouse and keyboard returned to the agent", "why", why, "after", time.Since(o.control.since).Round(time.Second))
	o.control.end.Stop()
	o.control = control{end: o.control.end}
	return o.controlChanged(), nil
}

// controlChanged tells all who show it; o.mu is held.
func (o *Operator) controlChanged() wire.Control {
	now := o.control.told()
	o.broadcast(controlLine(now))
	o.stirred()
	select {
	case o.leasing <- struct{}{}:
	default:
	}
	return now
}

func controlLine(c wire.Control) wire.OperatorLine {
	b, _ := json.Marshal(c) // strings and numbers
	return wire.OperatorLine{Event: wire.ControlEvent, Payload: b}
}

// resume finds a hold from before the guest started.
func (o *Operator) resume() {
	if o.c.Gate == nil {
		return
	}
	if left := o.c.Gate.Held(); left > 0 {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.holds(left)
	}
}

// use carries out one of the methods of wire.Control.
func (o *Operator) use(r wire.OperatorRequest) wire.OperatorLine {
	line := wire.OperatorLine{ID: r.ID}
	var none struct{}
	if len(r.Params) > 0 && strict(r.Params, &none) != nil {
		line.Error = failure("INVALID_REQUEST", errParams.Error(), false)
		return line
	}
	now, err := wire.Control{}, errNoGate
	switch {
	case o.c.Gate == nil:
	case r.Method == wire.ControlTake:
		now, err = o.take(wire.ControlFor)
	default:
		now, err = o.give()
	}
	switch {
	case errors.Is(err, errNoGate):
		line.Error = failure("INVALID_REQUEST", err.Error(), false)
	case err != nil:
		o.log.Warn("mouse and keyboard were not handed over", "method", r.Method, "err", err)
		line.Error = failure("UNAVAILABLE", "The desktop is not ready; try again in a few seconds.", true)
	default:
		line.OK, line.Payload = true, controlLine(now).Payload
	}
	return line
}

var errNoGate = errors.New("the agent of this desktop has no mouse and keyboard that could be taken from it")
