package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/json"
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
			list = append(list, r.transcript...)
			answer["inFlightRun"] = map[string]any{"runId": r.id, "text": r.text.String(), "startedAt": r.started.UnixMilli()}
		}
	}
	list = list[:max(0, len(list)-max(0, p.Offset))]
	if p.Limit > 0 && len(list) > p.Limit {
		list = list[len(list)-p.Limit:]
		answer["hasMore"], answer["nextOffset"] = true, max(0, p.Offset)+p.Limit
	}
	for i := range list {
		list[i] = g.sessions[key].leaveOut(list[i])
	}
	answer["messages"] = list
	c.answer(r.ID, answer, nil)
}

func chatSend(c *client, r request) {
	var p struct {
		SessionKey, Message, IdempotencyKey string
		Attachments                         []json.RawMessage
	}
	if !params(c, r, &p) {
		return
	}
	if p.IdempotencyKey == "" || len(p.IdempotencyKey) > 200 {
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "idempotencyKey is needed"})
		return
	}
	files, failed := attached(p.Attachments)
	if p.Message == "" && len(files) == 0 && failed == "" {
		failed = "message or attachment required"
	}
	if failed != "" {
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: failed})
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
		s = &session{Key: key, Kind: "direct"}
		g.sessions[key] = s
	}
	now := sending{id, sha256.Sum256([]byte(p.Message))}
	if known := slices.IndexFunc(s.sent, func(m sending) bool { return m.key == id }); known >= 0 { // a resend after a reconnect
		if s.sent[known].text != now.text {
			g.mu.Unlock()
			c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "chat-request-conflict: the idempotency key belongs to another message"})
			return
		}
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
	if err := g.store.file(files); err != nil {
		g.mu.Unlock()
		g.log.Warn("saving the files of a message failed", "err", err)
		c.answer(r.ID, nil, &failure{Code: "UNAVAILABLE", Message: "MediaOffloadError: the files could not be saved on the machine"})
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	answering := &run{g: g, s: s, sender: c, id: id, started: time.Now(), ctx: ctx, cancel: cancel}
	g.runs[id] = answering
	s.running = answering
	s.sent = append(s.sent, now)
	s.sent = s.sent[max(0, len(s.sent)-maxHistory):]
	asked := spoken("user", clip(p.Message, maxKept), id+":user")
	asked.Meta = &meta{}
	for _, f := range files {
		asked.Meta.Media = append(asked.Meta.Media, f.media)
	}
	g.say(s, asked)
	g.answers.Add(1)
	g.mu.Unlock()
	// The sender gets the answer, subscribed or not.
	c.mu.Lock()
	c.messages[key] = true
	c.mu.Unlock()
	c.answer(r.ID, map[string]any{"runId": id, "status": "started"}, nil)
	go answering.respond(p.Message, told(files))
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

// say adds to a session's transcript, saves it, and sends it to the clients that follow the session.
func (g *Gateway) say(s *session, m message) message {
	if m.Timestamp == 0 {
		m.Timestamp = time.Now().UnixMilli()
	}
	titled := s.Title != ""
	m = s.keep(m)
	if g.sessions[s.Key] == s { // else it was deleted
		if !titled {
			g.store.list(g.sessions)
		}
		g.store.add(s, record{Type: "message", Message: &m})
		if slices.ContainsFunc(m.Content, func(c content) bool { return c.Type == "image" }) {
			g.thin()
		}
	}
	g.broadcastLocked("session.message", map[string]any{"sessionKey": s.Key, "message": s.leaveOut(m), "messageId": m.Meta.ID, "messageSeq": s.seq}, func(c *client) bool { return c.follows(s.Key) || c.followsAll() })
	return m
}
