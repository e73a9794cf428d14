package gateway

import (
	"cmp"
	"crypto/rand"
	"maps"
	"slices"
	"time"
)

const promptLife = 5 * time.Minute

// prompt is a decision that a run waits for: an approval or questions.
type prompt struct {
	kind    string // "approval" or "question"
	run     string
	record  map[string]any // as clients see it
	created int64
	allowed []string // decisions, or question ids
	decided chan map[string][]string
}

const decisionKey = "decision"

type question struct {
	ID          string   `json:"questionId"`
	Header      string   `json:"header"`
	Question    string   `json:"question"`
	Options     []option `json:"options"`
	MultiSelect bool     `json:"multiSelect,omitempty"`
	IsOther     bool     `json:"isOther,omitempty"`
}

type option struct {
	Label       string `json:"label"`
	Description string `json:"description,omitempty"`
}

// approval asks whether a command may run and returns the decision; "": none. It does not ask for what a user allowed
// always.
func (r *run) approval(call, command string) string {
	if r.g.allows(command) {
		return "allow-always"
	}
	parts := calls(command)
	now := time.Now()
	id := rand.Text()
	r.approvalID = id
	p := &prompt{
		kind: "approval", run: r.id, created: now.UnixMilli(), allowed: []string{"allow-once", "allow-always", "deny"},
		record: map[string]any{
			"approvalKind": "exec", "id": id, "createdAtMs": now.UnixMilli(), "expiresAtMs": now.Add(promptLife).UnixMilli(),
			"request": map[string]any{
				"command": command, "cwd": cmp.Or(r.cwd, home), "host": "gateway", "agentId": "main", "sessionKey": r.s.Key, "runId": r.id, "toolCallId": call, "security": "allowlist", "ask": "on-miss",
				"allowedDecisions": []string{"allow-once", "allow-always", "deny"}, "commandAnalysis": map[string]any{"commandCount": len(parts)},
			},
		},
	}
	r.act("approval", map[string]any{"phase": "requested", "kind": "exec", "status": "pending", "title": "Command approval requested", "toolCallId": call, "approvalId": id, "command": command, "host": "gateway"})
	decided := r.await(id, p, "exec.approval.requested")
	status, decision := "denied", ""
	if len(decided[decisionKey]) == 1 {
		decision = decided[decisionKey][0]
	}
	ended := map[string]string{"allow-once": "allowed", "allow-always": "allowed", "deny": "denied"}[decision]
	r.g.mu.Lock()
	r.g.recordLocked(id, command, cmp.Or(ended, "expired"), decision)
	r.g.mu.Unlock()
	if ended == "allowed" {
		status = "approved"
	}
	r.act("approval", map[string]any{"phase": "resolved", "kind": "exec", "status": status, "title": "Command approval resolved", "toolCallId": call, "approvalId": id})
	return decision
}

// questions asks a person and returns the answers; nil: none.
func (r *run) questions(list []question) map[string][]string {
	now := time.Now()
	id := rand.Text()
	p := &prompt{kind: "question", run: r.id, created: now.UnixMilli(), record: map[string]any{
		"id": id, "questions": list, "agentId": "main", "sessionKey": r.s.Key, "runId": r.id,
		"createdAtMs": now.UnixMilli(), "expiresAtMs": now.Add(promptLife).UnixMilli(), "status": "pending",
	}}
	for _, q := range list {
		p.allowed = append(p.allowed, q.ID)
	}
	return r.await(id, p, "question.requested")
}

func (r *run) await(id string, p *prompt, event string) map[string][]string {
	g := r.g
	p.decided = make(chan map[string][]string, 1)
	g.mu.Lock()
	if !r.sender.holds("operator."+p.kind+"s") || p.kind == "approval" && !g.heardLocked(p) {
		g.mu.Unlock()
		return nil // its sender may not ask, or no client can be asked
	}
	g.prompts[id] = p
	g.broadcastLocked(event, p.record, p.hears)
	g.mu.Unlock()
	expired := time.NewTimer(promptLife)
	defer expired.Stop()
	select {
	case <-r.ctx.Done():
	case <-expired.C:
	case answer := <-p.decided:
		return answer
	}
	g.mu.Lock()
	g.forgetLocked(r.id)
	g.mu.Unlock()
	return nil
}

// reviews reports whether a client may list and answer prompts of the kind. As in the original, the scope is enough for
// questions, but not for approvals.
func (c *client) reviews(kind string) bool {
	return c.holds(admin) || kind == "question" && c.holds("operator.questions")
}

// hears reports whether a client gets the prompt: approvals go only to clients that announced that they show them.
func (p *prompt) hears(c *client) bool {
	return c.reviews(p.kind) && (p.kind != "approval" || c.caps["approvals"] || c.caps["exec-approvals"])
}

// heardLocked reports whether any client gets the prompt.
func (g *Gateway) heardLocked(p *prompt) bool {
	for c := range g.clients {
		if p.hears(c) {
			return true
		}
	}
	return false
}

// forgetLocked withdraws the open prompts of a run that has ended.
func (g *Gateway) forgetLocked(run string) {
	for id, p := range g.prompts {
		if p.run != run {
			continue
		}
		delete(g.prompts, id)
		if p.kind == "question" {
			g.broadcastLocked("question.resolved", map[string]any{"id": id, "status": "cancelled"}, p.hears)
		} else {
			g.broadcastLocked("exec.approval.resolved", map[string]any{"id": id, "decision": "deny", "resolvedBy": nil, "ts": time.Now().UnixMilli(), "request": p.record["request"]}, p.hears)
		}
	}
}

// pending lists the prompts of a kind that the client may answer.
func (g *Gateway) pending(c *client, kind string) []map[string]any {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := []map[string]any{}
	if !c.reviews(kind) {
		return list
	}
	ids := slices.SortedFunc(maps.Keys(g.prompts), func(a, b string) int { return cmp.Compare(g.prompts[a].created, g.prompts[b].created) })
	for _, id := range ids {
		if g.prompts[id].kind == kind {
			list = append(list, g.prompts[id].record)
		}
	}
	return list
}

func approvalList(c *client, r request) { c.answer(r.ID, c.g.pending(c, "approval"), nil) }

func pluginApprovalList(c *client, r request) { c.answer(r.ID, []any{}, nil) }

func questionList(c *client, r request) {
	c.answer(r.ID, map[string]any{"questions": c.g.pending(c, "question")}, nil)
}

func approvalResolve(c *client, r request) {
	var p struct{ ID, Decision string }
	if !params(c, r, &p) {
		return
	}
	g := c.g
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.prompts[p.ID]
	switch {
	case a == nil || a.kind != "approval" || !c.reviews(a.kind):
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "unknown or expired approval id"})
		return
	case !slices.Contains(a.allowed, p.Decision):
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "invalid decision"})
		return
	}
	delete(g.prompts, p.ID)
	a.decided <- map[string][]string{decisionKey: {p.Decision}}
	c.answer(r.ID, map[string]any{"ok": true}, nil)
	g.broadcastLocked("exec.approval.resolved", map[string]any{"id": p.ID, "decision": p.Decision, "resolvedBy": "gateway-client", "ts": time.Now().UnixMilli(), "request": a.record["request"]}, a.hears)
}

func questionResolve(c *client, r request) {
	var p struct {
		ID      string
		Cancel  bool
		Answers *struct{ Answers map[string][]string }
	}
	if !params(c, r, &p) {
		return
	}
	g := c.g
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.prompts[p.ID]
	switch {
	case q == nil || q.kind != "question" || !c.reviews(q.kind):
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "unknown or expired question id"})
		return
	case p.Cancel == (p.Answers != nil):
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "either answers or cancel is needed"})
		return
	}
	event := map[string]any{"id": p.ID, "status": "cancelled"}
	var answers map[string][]string
	if p.Answers != nil {
		answers = p.Answers.Answers
		for _, id := range q.allowed {
			if len(answers[id]) == 0 {
				c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "no answer to " + id})
				return
			}
		}
		event = map[string]any{"id": p.ID, "status": "answered", "answers": map[string]any{"answers": answers}}
	}
	delete(g.prompts, p.ID)
	q.decided <- answers
	result := maps.Clone(event)
	delete(result, "id")
	c.answer(r.ID, result, nil)
	g.broadcastLocked("question.resolved", event, q.hears)
}
