package mux

import "time"

// look ends a session whose connection is stuck or silent, and pings.
func (s *Session) look() {
	s.mu.Lock()
	sentAt := s.sentAt
	s.mu.Unlock()
	now, since, heard := s.now(), time.Duration(s.since.Load()), time.Duration(s.heard.Load())
	switch {
	case since > 0 && now-since > s.c.WriteTimeout:
		s.fail(errStuck)
	case heard < sentAt && now-sentAt > s.c.WriteTimeout:
		s.fail(errSilent)
	case heard >= sentAt && now-sentAt >= s.c.KeepAlive:
		s.ping()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.watch.Reset(s.c.WriteTimeout / 4)
	}
}

// ping sends a ping and returns a channel of its round trip.
func (s *Session) ping() <-chan time.Duration {
	pong := make(chan time.Duration, 1)
	s.mu.Lock()
	s.lastID++
	id := s.lastID
	s.pings[id] = pong
	s.sentAt = s.now()
	for old := range s.pings {
		if id-old > queued { // it was never answered
			delete(s.pings, old)
		}
	}
	s.mu.Unlock()
	s.owe(frame(typePing, flagSYN, 0, id))
	return pong
}

// Ping returns how long a ping and its answer take. It waits until the session ends.
func (s *Session) Ping() (time.Duration, error) {
	select {
	case took := <-s.ping():
		return took, nil
	case <-s.done:
		return 0, s.Err()
	}
}

// RTT returns a round trip's time, as the latest pings had it; 0: not known yet.
func (s *Session) RTT() time.Duration { return time.Duration(s.rtt.Load()) }

func (s *Session) pinged(flags uint16, id uint32) {
	if flags&flagSYN != 0 {
		s.owe(frame(typePing, flagACK, 0, id))
		return
	}
	s.mu.Lock()
	pong := s.pings[id]
	delete(s.pings, id)
	took := s.now() - s.sentAt
	latest := id == s.lastID
	s.mu.Unlock()
	if pong == nil {
		return
	}
	pong <- took
	if !latest {
		return
	}
	if before := s.RTT(); before > 0 && took > before {
		took = before + (took-before)/8 // perhaps it waited behind data
	}
	s.rtt.Store(int64(max(took, 1)))
}
