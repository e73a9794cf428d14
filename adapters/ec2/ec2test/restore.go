package ec2test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const actReboot = "RebootInstances"

// Restore reads a ledger that another Server wrote. Its machines have their last states, and those that were running
// boot again, as after a power cut. userData returns a machine's user-data, which no ledger contains. Call Restore
// only on a new Server.
func (s *Server) Restore(ledger io.Reader, userData func(id string) string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for lines := json.NewDecoder(ledger); ; {
		var e Entry
		err := lines.Decode(&e)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = s.replay(e, userData)
		}
		if err != nil {
			return fmt.Errorf("restore from the ledger after entry %d: %w", len(s.ledger), err)
		}
		s.ledger = append(s.ledger, e)
	}
	for _, id := range sorted(s.machines) {
		if m := s.machines[id]; m.state == Running {
			s.become(m, Pending)
			s.enter(Entry{Action: actReboot, Machine: id, Outside: true})
		}
	}
	return nil
}

// replay applies an entry and the changes that followed from it later.
func (s *Server) replay(e Entry, userData func(id string) string) error {
	m := s.machines[e.Machine]
	if e.Action == actRun && e.Launch != nil {
		m = &machine{id: e.Machine, launch: *e.Launch}
		m.launch.UserData = userData(m.id)
		s.machines[m.id] = m
		if m.launch.ClientToken != "" {
			s.tokens[m.launch.ClientToken] = m
		}
		var n int
		if _, err := fmt.Sscanf(m.id, "i-%08x", &n); err != nil {
			return fmt.Errorf("machine %q: %w", m.id, err)
		}
		s.made = max(s.made, n)
	}
	if m == nil {
		return fmt.Errorf("%s of %q, which was never launched", e.Action, e.Machine)
	}
	m.bill.restore(e)
	switch e.Action {
	case actRun, actStart, actReboot:
		m.state, m.launched = Running, e.Time
		m.boots++
	case actStop:
		m.state = Stopped
	case actTerminate:
		m.state, m.ended, m.reason = Terminated, e.Time, "Client.UserInitiatedShutdown"
	default:
		return fmt.Errorf("unknown action %q", e.Action)
	}
	return nil
}
