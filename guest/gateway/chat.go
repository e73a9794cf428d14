package gateway

import (
	"context"
	"crypto/rand"
	"slices"
	"time"
)

func chatHistory(c *client, r request) {
	p := struct {
		SessionKey    string
		Limit, Offset int // Offset: messages to skip at the newest end
	}{Limit: 200}
	if !params(c, r, &p) {
		return
	}
	key := canonical(p.SessionKey)
	list := []message{}
	g := c.g
	// Answered under the lock: events of a run sent before are in inFlightRun, later ones are not.
	g.mu.Lock()
	defer g.mu.Unlock()
	answer := map[string]any{"sessionKey": key}
	if s := g.sessions[key]; s != nil {
		list = append(list, s.messages...)
		if r := s.running; r != nil {
			answer["inFlightRun"] = map[string]any{"runId": r.id, "text": r.text.String(), "startedAt": r.started.UnixMilli()}
		}
	}
	list = list[:max(0, len(list)-max(0, p.Offset))]
	if p.Limit > 0 && len(list) > p.Limit {
		list = list[len(list)-p.Limit:]
		answer["hasMore"], answer["nextOffset"] = true, max(0, p.Offset)+p.Limit
	}
	answer["messages"] = list
	c.answer(r.ID, answer, nil)
}

func chatSend(c *client, r request) {
	var p struct{ SessionKey, Message, IdempotencyKey string }
	if !params(c, r, &p) {
		return
	}
	if p.IdempotencyKey == "" || len(p.IdempotencyKey) > 200 || p.Message == "" {
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "message and idempotencyKey are needed"})
		return
	}
	key, id := canonical(p.SessionKey), p.IdempotencyKey
	g := c.g
	g.mu.Lock()
	s := g.sessions[key]
	if s == nil {
		if len(g.sessions) >= maxSessions {
			g.mu.Unlock()
			c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "too many sessions"})
			return
		}
		s = &session{Key: key}
		g.sessions[key] = s
	}
	if slices.Contains(s.sent, id) { // a resend after a reconnect: it was accepted before
		status := "ok"
		if s.running != nil && s.running.id == id {
			status = "in_flight"
		}
		g.mu.Unlock()
		c.answer(r.ID, map[string]any{"runId": id, "status": status}, nil)
		return
	}
	if s.running != nil || g.closed {
		g.mu.Unlock()
		c.answer(r.ID, nil, &failure{Code: "UNAVAILABLE", Message: "the session is answering already", Retryable: true, RetryAfterMs: 500})
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	answering := &run{g: g, s: s, sender: c, id: id, started: time.Now(), ctx: ctx, cancel: cancel}
	g.runs[id] = answering
	s.running = answering
	s.sent = append(s.sent, id)
	if len(s.sent) > maxHistory {
		s.sent = s.sent[1:]
	}
	g.say(s, spoken("user", clip(p.Message, maxKept), id+":user"))
	g.answers.Add(1)
	g.mu.Unlock()
	// The sender gets the answer, subscribed or not.
	c.mu.Lock()
	c.messages[key] = true
	c.mu.Unlock()
	c.answer(r.ID, map[string]any{"runId": id, "status": "started"}, nil)
	go answering.respond(p.Message)
}

func chatAbort(c *client, r request) {
	var p struct{ SessionKey, RunID string }
	if !params(c, r, &p) {
		return
	}
	g := c.g
	// Answered under the lock, so before the run sends that it was aborted.
	g.mu.Lock()
	defer g.mu.Unlock()
	aborted := []string{}
	if s := g.sessions[canonical(p.SessionKey)]; s != nil && s.running != nil && (p.RunID == "" || p.RunID == s.running.id) {
		if s.running.sender != c && !c.holds(admin) {
			c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "unauthorized"})
			return
		}
		aborted = append(aborted, s.running.id)
		s.running.cancel()
	}
	c.answer(r.ID, map[string]any{"ok": true, "aborted": len(aborted) > 0, "runIds": aborted}, nil)
}

// say adds to a session's transcript, and sends it to the clients that follow the session.
func (g *Gateway) say(s *session, m message) message {
	if m.Timestamp == 0 {
		m.Timestamp = time.Now().UnixMilli()
	}
	s.seq++
	m.Meta = &meta{ID: rand.Text(), Seq: s.seq}
	s.messages = append(s.messages, m)
	if len(s.messages) > maxHistory {
		s.messages = s.messages[1:]
	}
	s.UpdatedAt = m.Timestamp
	if s.Title == "" && m.Role == "user" {
		s.Title = clipRunes(m.Content[0].Text, 60)
	}
	g.broadcastLocked("session.message", map[string]any{"sessionKey": s.Key, "message": m, "messageId": m.Meta.ID, "messageSeq": s.seq}, func(c *client) bool { return c.follows(s.Key) })
	return m
}
