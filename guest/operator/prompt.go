package operator

import (
	"encoding/json"
	"time"
)

// kind is a kind of what the agent asks a person. It is also the beginning of its methods' and events' names.
type kind string

const (
	execApproval   kind = "exec.approval"
	pluginApproval kind = "plugin.approval"
	question       kind = "question"
)

var kinds = []kind{execApproval, pluginApproval, question}

func (k kind) list() string      { return string(k) + ".list" }
func (k kind) resolve() string   { return string(k) + ".resolve" }
func (k kind) requested() string { return string(k) + ".requested" }
func (k kind) resolved() string  { return string(k) + ".resolved" }

// prompt is an approval or a set of questions that waits for a person.
type prompt struct {
	kind kind
	id   string
	raw  json.RawMessage // as lines to the control plane have it
	from *conn           // the latest connection over which it came

	session string    // the chat that asks
	until   int64     // when it expires, in milliseconds of Unix time; 0: not known
	came    time.Time // when it was first seen
	ends    time.Time // until when it counts as waiting; see begin
}

func (p *prompt) same(q *prompt) bool { return p.kind == q.kind && p.id == q.id }

// maxTime is the last millisecond of the year 9999, which JSON's form of a time can hold.
const maxTime = 253402300799999

// parsePrompt reads a prompt of one of the machine's chats; nil: it is none.
func parsePrompt(k kind, raw json.RawMessage) *prompt {
	var p struct {
		ID         string
		SessionKey string // of questions
		Request    struct{ SessionKey string }

		ExpiresAtMs json.RawMessage // read with tolerance: a prompt is shown even if this field is odd
	}
	if json.Unmarshal(raw, &p) != nil || p.ID == "" || len(p.ID) > maxID {
		return nil
	}
	session := p.Request.SessionKey
	if k == question {
		session = p.SessionKey
	}
	if !sessionKey(session) {
		return nil
	}
	if len(raw) <= maxPrompt {
		raw = escaped(raw) // lines have it so, and "<" takes six bytes there
	}
	var until float64
	if json.Unmarshal(p.ExpiresAtMs, &until) != nil || until < 0 || until > maxTime {
		until = 0
	}
	return &prompt{kind: k, id: p.ID, raw: raw, session: session, until: int64(until)}
}

// escaped returns JSON as Marshal writes it, which may be longer.
func escaped(raw json.RawMessage) json.RawMessage {
	b, err := json.Marshal(raw)
	if err != nil {
		return raw
	}
	return b
}

// restarting is the gateway's word for a prompt that it gave up because it restarted.
const restarting = "gateway-restart"

// ending is how a prompt ended. Answers to questions are left out: they may be secret.
type ending struct {
	ID       string `json:"id"`
	Decision string `json:"decision,omitempty"`
	Status   string `json:"status,omitempty"` // of the gateway: allowed, denied, expired, cancelled, answered
	Reason   string `json:"reason,omitempty"`
	At       int64  `json:"ts"`
}

// parseEnding reads the answer of approval.get or question.get.
func parseEnding(payload json.RawMessage, unknown ending) ending {
	type record struct{ Status, Reason, Decision string }
	var p struct {
		record
		Approval, Question record
	}
	if json.Unmarshal(payload, &p) != nil {
		return unknown
	}
	for _, r := range []record{p.Approval, p.Question, p.record} {
		if r.Status != "" && r.Status != "pending" {
			return ending{Decision: r.Decision, Status: r.Status, Reason: r.Reason}
		}
	}
	return unknown
}
