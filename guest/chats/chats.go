// Package chats gives the control plane a copy of the agent's newest chats, which the user can read while the machine is
// stopped.
//
// The one thing to know: a copy is made after a change, at most every ten seconds, and once more before the machine stops.
// It has at most wire.MaxChats bytes, newest first, and says where something was left out.
package chats

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

const (
	every      = 10 * time.Second // least time between two copies
	together   = time.Second      // from a change to its copy: several changes come together
	perSecond  = 16 << 10         // bytes sent, on average: after a large copy, the next waits longer
	readWithin = time.Minute      // for a copy to be read from the gateway
	sendWithin = time.Minute      // for a copy to be accepted
	maxChanged = 2 * wire.MaxSavedSessions
)

// Config describes a keeper.
type Config struct {
	// Ask sends a request to the gateway and returns the answer's payload.
	Ask      func(ctx context.Context, method string, params any) (json.RawMessage, error)
	Logger   *slog.Logger  // nil: none
	Every    time.Duration // least time between two copies; 0: 10 s
	Together time.Duration // from a change to its copy; 0: 1 s
}

// Keeper makes the copies.
type Keeper struct {
	c   Config
	log *slog.Logger

	mu      sync.Mutex
	changed map[string]bool // sessions since the last copy that was kept; "": any
	stirred chan struct{}   // holds a value when one was added
	stream  *stream         // to the control plane; nil: none

	// Used only by the goroutine of the stream.
	known map[string]*entry // the sessions of the latest copy
	kept  []byte            // the latest copy that was kept
}

// stream is a stream of the control plane.
type stream struct {
	flush chan chan struct{} // takes what to close after a copy
	ended chan struct{}
}

// New returns a keeper.
func New(c Config) *Keeper {
	c.Every, c.Together = cmp.Or(c.Every, every), cmp.Or(c.Together, together)
	return &Keeper{
		c: c, log: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)),
		changed: map[string]bool{"": true}, stirred: make(chan struct{}, 1),
	}
}

// Changed says that a session changed; "": any may have changed. It returns immediately.
func (k *Keeper) Changed(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.changed) >= maxChanged {
		key = ""
	}
	k.changed[key] = true
	select {
	case k.stirred <- struct{}{}:
	default:
	}
}

// Flush makes a copy if something changed, and waits until the control plane has kept it, or ctx ends.
func (k *Keeper) Flush(ctx context.Context) {
	k.mu.Lock()
	s := k.stream
	k.mu.Unlock()
	if s == nil {
		return
	}
	done := make(chan struct{})
	select {
	case s.flush <- done:
	case <-s.ended:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-s.ended:
	case <-ctx.Done():
	}
}

// Serve sends copies over a stream of the control plane until it ends.
func (k *Keeper) Serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	s := &stream{flush: make(chan chan struct{}), ended: make(chan struct{})}
	k.mu.Lock()
	taken := k.stream != nil
	if !taken {
		k.stream = s
	}
	k.mu.Unlock()
	if taken {
		return errors.New("the chats are sent over another stream")
	}
	answers := make(chan wire.ChatsKept, 1)
	var hearing sync.WaitGroup
	hearing.Go(func() { hear(conn, answers) })
	defer func() {
		conn.Close()
		hearing.Wait()
		k.mu.Lock()
		k.stream = nil
		k.mu.Unlock()
		close(s.ended)
	}()
	next := time.Now() // when the next copy may be made
	for {
		flushed, ok := k.wait(s, answers, next)
		if !ok {
			return nil
		}
		size, err := k.copy(ctx, conn, answers)
		if flushed != nil {
			close(flushed)
		}
		if err != nil {
			return err
		}
		next = time.Now().Add(max(k.c.Every, time.Duration(size)*time.Second/perSecond))
	}
}

// hear reads the control plane's answers until the stream ends.
func hear(conn net.Conn, answers chan<- wire.ChatsKept) {
	defer close(answers)
	for {
		var a wire.ChatsKept
		if wire.ReadLine(conn, &a, wire.MaxChatsHead) != nil {
			return
		}
		select {
		case answers <- a:
		default: // nothing was sent that it could answer
			return
		}
	}
}

// wait waits until something has changed and the next copy may be made, or a Flush begins, which it returns. It is not ok
// at the end of the stream.
func (k *Keeper) wait(s *stream, answers <-chan wire.ChatsKept, next time.Time) (flushed chan struct{}, ok bool) {
	var soon <-chan time.Time
	for {
		k.mu.Lock()
		changed := len(k.changed) > 0
		k.mu.Unlock()
		if changed && soon == nil {
			timer := time.NewTimer(max(k.c.Together, time.Until(next)))
			defer timer.Stop()
			soon = timer.C
		}
		select {
		case <-answers: // one that nothing was sent for, or the end
			return nil, false
		case flushed = <-s.flush:
			return flushed, true
		case <-soon:
			return nil, true
		case <-k.stirred:
		}
	}
}

// copy makes a copy and sends it, unless it equals the latest. It returns how many bytes were sent; an error ends the
// stream.
func (k *Keeper) copy(ctx context.Context, conn net.Conn, answers <-chan wire.ChatsKept) (sent int, err error) {
	k.mu.Lock()
	changed := k.changed
	k.changed = map[string]bool{}
	k.mu.Unlock()
	kept := false
	defer func() {
		if kept {
			return
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		maps.Copy(k.changed, changed)
	}()
	reading, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	text, err := k.read(reading, changed)
	if err != nil {
		k.log.Debug("chats not read, will retry", "err", err) // the agent is starting, or has ended
		return 0, nil
	}
	if kept = bytes.Equal(text, k.kept); kept {
		return 0, nil
	}
	_ = conn.SetDeadline(time.Now().Add(sendWithin))
	if err := wire.WriteLine(conn, wire.ChatsHead{Bytes: len(text)}, wire.MaxChatsHead); err != nil {
		return 0, err
	}
	if _, err := conn.Write(text); err != nil {
		return 0, err
	}
	a, ok := <-answers
	if !ok {
		return 0, errors.New("the control plane did not answer a copy of the chats")
	}
	_ = conn.SetDeadline(time.Time{})
	if kept = a.Kept; kept {
		k.kept = text
	}
	return len(text), nil
}
