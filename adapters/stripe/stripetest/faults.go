package stripetest

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// What can happen to a call. The words are those of the test's own interface.
const (
	Cut    = "cut"    // the connection breaks before the call had an effect
	Lost   = "lost"   // it breaks after the effect: the answer is lost
	Error  = "error"  // 500 without an effect. Its key remembers the 500
	Broken = "broken" // 500 after the effect. Its key remembers the 500
	Busy   = "busy"   // 429
	Locked = "locked" // 409: another call with the same key is under way
	Proxy  = "proxy"  // 502 with a page of some proxy, without an effect
	Hang   = "hang"   // there is never an answer, after the effect
)

// Faults says how often each fault happens: of 1,000 calls.
type Faults struct {
	Calls map[string]int `json:"calls"` // by the name of the fault
	// Deliveries that are lost, sent twice, or sent late and so in another order: of 1,000.
	Lose   int           `json:"lose"`
	Repeat int           `json:"repeat"`
	Delay  int           `json:"delay"`
	Late   time.Duration `json:"late"` // at most; 0: an hour
}

// Next is a fault of the next calls whose method and path begin so. Times 0: 1.
type Next struct {
	Call  string `json:"call"` // "POST /v1/billing/meter_events"
	Fault string `json:"fault"`
	Times int    `json:"times"`
}

// SetFaults says what happens from now on.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// FailNext makes the next calls fail.
func (s *Server) FailNext(n Next) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.Times = max(n.Times, 1)
	s.next = append(s.next, n)
}

// Down makes all calls fail for a time, and sends no deliveries.
func (s *Server) Down(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = s.now().Add(d)
}

// fault returns what happens to a call; "": nothing.
func (s *Server) fault(method, path string, known bool) string {
	if s.now().Before(s.down) {
		return Proxy
	}
	for i := range s.next {
		if n := &s.next[i]; strings.HasPrefix(method+" "+path, n.Call) {
			fault := n.Fault
			if n.Times--; n.Times == 0 {
				s.next = slices.Delete(s.next, i, i+1)
			}
			return fault
		}
	}
	roll := s.random.IntN(1000)
	for _, name := range []string{Cut, Lost, Error, Broken, Busy, Locked, Proxy, Hang} {
		if roll -= s.faults.Calls[name]; roll < 0 {
			if known && (name == Error || name == Broken) {
				return "" // the outcome is known: it is said again
			}
			return name
		}
	}
	return ""
}

// before returns the answer to a call that a fault keeps from having any effect.
func before(fault, key string) (a answer, stop bool) {
	switch fault {
	case Cut:
		return answer{cut: true}, true
	case Proxy:
		return answer{status: http.StatusBadGateway, kind: "text/html", body: []byte("<html><h1>502 Bad Gateway</h1></html>")}, true
	case Busy:
		return refused(&refusal{http.StatusTooManyRequests, "invalid_request_error", "rate_limit", "", "Request rate limit exceeded."}), true
	case Locked:
		return refused(&refusal{http.StatusConflict, "invalid_request_error", "idempotency_key_in_use", "",
			"There is currently another in-progress request using this Idempotent Key (" + key + ")."}), true
	}
	return answer{}, false
}

// chance decides a fault that happens to so many of 1,000.
func (s *Server) chance(of int) bool { return of > 0 && s.random.IntN(1000) < of }
