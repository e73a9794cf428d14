package ec2test

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Entry is one call that took effect.
type Entry struct {
	Seq     int       `json:"seq"` // 1, 2, 3 …
	Time    time.Time `json:"time"`
	Action  string    `json:"action"`
	Machine string    `json:"machine"`
	Outside bool      `json:"outside,omitempty"` // not made by the API's client
	Launch  *Launch   `json:"launch,omitempty"`  // of RunInstances
}

// enter appends to the ledger.
func (s *Server) enter(e Entry) {
	e.Seq, e.Time = len(s.ledger)+1, time.Now().UTC()
	s.ledger = append(s.ledger, e)
	if s.cfg.Ledger != nil {
		text, err := json.Marshal(e)
		if err == nil {
			_, err = s.cfg.Ledger.Write(append(text, '\n'))
		}
		if err != nil && s.failed == nil {
			s.failed = fmt.Errorf("write the ledger: %w", err)
			s.cfg.Logger.Error("writing the ledger failed", "err", err)
		}
	}
	if s.cfg.Effect != nil {
		s.cfg.Effect(e, s.list())
	}
}

// Ledger returns all effective calls in their order.
func (s *Server) Ledger() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return slices.Clone(s.ledger)
}
