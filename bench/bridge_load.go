package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

// load is what browsers do on a path.
type load struct {
	path     string
	sessions int
	size     int           // bytes of a message; 0: 64
	every    time.Duration // between two messages of a session; 0: 1000 messages a second in all, at most 20 of a session
	delay    time.Duration // round trip between guest and control plane
	length   time.Duration
}

// pause returns every, or its default.
func (l load) pause() time.Duration {
	if l.every > 0 {
		return l.every
	}
	return max(50*time.Millisecond, time.Duration(l.sessions)*time.Millisecond)
}

// flow is the result of throughput.
type flow struct {
	mbs   float64 // all sessions together
	perGB float64 // CPU seconds of the path's parts
}

// throughput reads what the machine sends without end.
func throughput(ctx context.Context, m machine, l load) (f flow, err error) {
	r, err := newRig(ctx, l.path, m, l.sessions, l.delay)
	if err != nil {
		return f, err
	}
	defer r.stop()
	counts := make([]int64, l.sessions)
	var failed error
	var mu sync.Mutex
	var all sync.WaitGroup
	warm, begin, end := make(chan struct{}, l.sessions), make(chan struct{}), make(chan struct{})
	for n := range l.sessions {
		c, err := r.dial(ctx, n)
		if err != nil {
			return f, err
		}
		defer c.Close()
		all.Go(func() {
			buf := make([]byte, 256<<10)
			_, err := c.Write(flood)
			for t := time.Now().Add(l.length / 3); err == nil && time.Now().Before(t); { // windows grow
				_, err = c.Read(buf)
			}
			warm <- struct{}{}
			<-begin
			for err == nil {
				select {
				case <-end:
					return
				default:
				}
				var m int
				m, err = c.Read(buf)
				counts[n] += int64(m)
			}
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
		})
	}
	for range l.sessions {
		<-warm
	}
	cpu, began := r.cpu(), time.Now()
	close(begin)
	time.Sleep(l.length)
	took, used := time.Since(began), r.cpu()-cpu
	close(end)
	all.Wait()
	sum := 0.0
	for _, n := range counts {
		sum += float64(n)
	}
	return flow{sum / 1e6 / took.Seconds(), used.Seconds() / (sum / 1e9)}, failed
}

// trips is the result of roundTrips.
type trips struct {
	p50, p99 time.Duration
	perTrip  time.Duration // CPU of the path's parts
}

// roundTrips sends messages that come back.
func roundTrips(ctx context.Context, m machine, l load) (t trips, err error) {
	r, err := newRig(ctx, l.path, m, l.sessions, l.delay)
	if err != nil {
		return t, err
	}
	defer r.stop()
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	var all sync.WaitGroup
	begin := make(chan struct{})
	message := echoed(l.path, max(l.size, 64))
	for n := range l.sessions {
		c, err := r.dial(ctx, n)
		if err != nil {
			return t, err
		}
		defer c.Close()
		all.Go(func() {
			<-begin
			time.Sleep(l.pause() * time.Duration(n) / time.Duration(l.sessions)) // not all in one instant
			var mine []time.Duration
			var err error
			buf := make([]byte, len(message))
			for end := time.Now().Add(l.length); err == nil && time.Now().Before(end); time.Sleep(l.pause()) {
				began := time.Now()
				if _, err = c.Write(message); err == nil {
					_, err = io.ReadFull(c, buf)
				}
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			defer mu.Unlock()
			took, failed = append(took, mine...), errors.Join(failed, err)
		})
	}
	cpu := r.cpu()
	close(begin)
	all.Wait()
	if failed != nil || len(took) == 0 {
		return t, failed
	}
	slices.Sort(took)
	return trips{took[len(took)/2], took[len(took)*99/100], (r.cpu() - cpu) / time.Duration(len(took))}, nil
}
