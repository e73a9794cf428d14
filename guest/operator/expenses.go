package operator

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
)

const (
	maxExpense  = 1000   // dollars of one call of a model; more is nonsense
	maxExpenses = 1e12   // micro-dollars in total
	maxCounted  = 16_384 // messages that are remembered, so that none counts twice
)

// expenses adds up what the gateway estimates that its models' calls cost. The zero value has none.
type expenses struct {
	total   int64 // micro-dollars
	counted map[[16]byte]bool
	order   [][16]byte // of counted, as a ring
	oldest  int
}

// add counts the cost of a session.message, once. The wire has it as a number of dollars.
func (e *expenses) add(payload json.RawMessage) {
	var p struct {
		SessionKey string
		MessageID  string
		MessageSeq json.RawMessage
		Message    struct {
			Timestamp json.RawMessage
			Usage     struct{ Cost json.RawMessage }
			Meta      struct{ ID string } `json:"__openclaw"`
		}
	}
	if json.Unmarshal(payload, &p) != nil {
		return
	}
	var cost struct{ Total *float64 }
	if json.Unmarshal(p.Message.Usage.Cost, &cost) != nil || cost.Total == nil {
		return
	}
	micros := microsOf(*cost.Total)
	if micros == 0 {
		return
	}
	id := p.MessageID
	if id == "" {
		id = p.Message.Meta.ID
	}
	if id == "" {
		id = fmt.Sprintf("%.20s %.20s %d", p.MessageSeq, p.Message.Timestamp, micros)
	}
	if e.once(p.SessionKey + "\x00" + id) {
		e.total = min(e.total+micros, maxExpenses)
	}
}

// microsOf converts dollars, rounded down; 0: it is no plausible cost.
func microsOf(dollars float64) int64 {
	if !(dollars > 0 && dollars <= maxExpense) { // also not a number
		return 0
	}
	// A decimal number such as 0.29 is a little less in binary.
	return int64(math.Floor(dollars*1e6 + 1e-6))
}

// once reports whether a message has not been counted.
func (e *expenses) once(id string) bool {
	sum := sha256.Sum256([]byte(id))
	key := [16]byte(sum[:16])
	if e.counted[key] {
		return false
	}
	if e.counted == nil {
		e.counted = map[[16]byte]bool{}
	}
	e.counted[key] = true
	if len(e.order) < maxCounted {
		e.order = append(e.order, key)
		return true
	}
	delete(e.counted, e.order[e.oldest])
	e.order[e.oldest] = key
	e.oldest = (e.oldest + 1) % maxCounted
	return true
}

// spent counts the cost of a message, if it has one.
func (o *Operator) spent(payload json.RawMessage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.work.expenses.add(payload)
}
