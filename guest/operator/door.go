package operator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// door is one stream of the control plane.
type door struct {
	o    *Operator
	ctx  context.Context
	shut context.CancelCauseFunc
	out  chan []byte
}

var (
	errDoors  = errors.New("too many streams to the agent's operator")
	errBehind = errors.New("the control plane reads the agent's requests too slowly")
)

// Serve serves a stream of the control plane (see wire.Operator) and closes it.
func (o *Operator) Serve(ctx context.Context, c net.Conn) error {
	defer c.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &door{o: o, ctx: ctx, shut: cancel, out: make(chan []byte, maxQueue)}
	if err := o.enter(d); err != nil {
		return err
	}
	defer o.leave(d)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel(nil)
	all.Go(func() { d.write(c) })
	err := d.read(c, &all)
	if cause := context.Cause(ctx); errors.Is(cause, errBehind) {
		return cause
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// enter adds the stream, and queues the prompts that wait.
func (o *Operator) enter(d *door) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.doors) >= maxDoors {
		return errDoors
	}
	o.doors[d] = struct{}{}
	if o.c.Gate != nil {
		d.queue(controlLine(o.control.told()))
	}
	for _, line := range o.cancelled { // with the prompts, fewer than fit in the queue
		d.queue(line)
	}
	for _, p := range o.prompts {
		d.queue(wire.OperatorLine{Event: p.kind.requested(), Payload: p.raw})
	}
	return nil
}

func (o *Operator) leave(d *door) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.doors, d)
}

// broadcast queues an event for all streams; o.mu is held.
func (o *Operator) broadcast(event wire.OperatorLine) {
	b, err := encode(event)
	if err != nil {
		o.log.Error("encoding a line for the control plane failed", "err", err)
		return
	}
	for d := range o.doors {
		d.put(b) // all streams share the memory
	}
}

// queue never blocks: a stream that is not read is closed, and a new one gets all prompts again.
func (d *door) queue(line wire.OperatorLine) {
	b, err := encode(line)
	if err != nil {
		d.o.log.Error("encoding a line for the control plane failed", "err", err)
		return
	}
	d.put(b)
}

func (d *door) put(b []byte) {
	select {
	case d.out <- b:
	default:
		d.shut(errBehind)
	}
}

func encode(line wire.OperatorLine) ([]byte, error) {
	var b bytes.Buffer
	err := wire.WriteLine(&b, line, wire.MaxOperator)
	return b.Bytes(), err
}

func (d *door) write(c net.Conn) {
	for {
		var b []byte
		select {
		case <-d.ctx.Done():
			return
		case b = <-d.out:
		}
		_ = c.SetWriteDeadline(time.Now().Add(wire.WriteTimeout))
		if _, err := c.Write(b); err != nil {
			d.shut(err)
			return
		}
	}
}

// read carries out the control plane's requests, a few at a time.
func (d *door) read(c net.Conn, all *sync.WaitGroup) error {
	pace := rate.NewLimiter(requestRate, requestBurst)
	places := make(chan struct{}, maxCalls)
	s := bufio.NewScanner(c)
	s.Buffer(make([]byte, 0, 1024), wire.MaxOperator)
	for s.Scan() {
		var r wire.OperatorRequest
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			return err
		}
		if r.ID == "" || len(r.ID) > maxID {
			return errors.New("a request without an id, or with a long one")
		}
		if err := pace.Wait(d.ctx); err != nil {
			return err
		}
		select {
		case places <- struct{}{}:
		case <-d.ctx.Done():
			return d.ctx.Err()
		}
		all.Go(func() {
			defer func() { <-places }()
			d.queue(d.do(r))
		})
	}
	if err := s.Err(); err != nil {
		return err
	}
	return io.EOF
}
