package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

func chatHistory(c *client, r request) {
	p := struct {
		SessionKey string
		Limit      int
	}{Limit: 200}
	if !params(c, r, &p) {
		return
	}
	key := canonical(p.SessionKey)
	list := []message{}
	g := c.g
	g.mu.Lock()
	if s := g.sessions[key]; s != nil {
		list = append(list, s.messages...)
	}
	g.mu.Unlock()
	if p.Limit > 0 && len(list) > p.Limit {
		list = list[len(list)-p.Limit:]
	}
	c.answer(r.ID, map[string]any{"sessionKey": key, "messages": list}, nil)
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
	key, run := canonical(p.SessionKey), p.IdempotencyKey
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
	if slices.Contains(s.sent, run) { // a resend after a reconnect: it was taken
		status := "ok"
		if s.running == run {
			status = "in_flight"
		}
		g.mu.Unlock()
		c.answer(r.ID, map[string]any{"runId": run, "status": status}, nil)
		return
	}
	if s.running != "" || g.closed {
		g.mu.Unlock()
		c.answer(r.ID, nil, &failure{Code: "UNAVAILABLE", Message: "the session is answering already", Retryable: true, RetryAfterMs: 500})
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	g.runs[run] = cancel
	s.running = run
	s.sent = append(s.sent, run)
	if len(s.sent) > maxHistory {
		s.sent = s.sent[1:]
	}
	s.say(said("user", clip(p.Message, maxKept), run))
	g.answers.Add(1)
	g.mu.Unlock()
	// Who sends hears the answer, subscribed or not.
	c.mu.Lock()
	c.messages[key] = true
	c.mu.Unlock()
	c.answer(r.ID, map[string]any{"runId": run, "status": "started"}, nil)
	go g.respond(ctx, cancel, s, run, p.Message)
}

func chatAbort(c *client, r request) {
	var p struct{ SessionKey, RunID string }
	if !params(c, r, &p) {
		return
	}
	g := c.g
	g.mu.Lock()
	aborted := []string{}
	if s := g.sessions[canonical(p.SessionKey)]; s != nil && s.running != "" && (p.RunID == "" || p.RunID == s.running) {
		aborted = append(aborted, s.running)
		g.runs[s.running]()
	}
	g.mu.Unlock()
	c.answer(r.ID, map[string]any{"ok": true, "aborted": len(aborted) > 0, "runIds": aborted}, nil)
}

func (s *session) say(m message) {
	s.messages = append(s.messages, m)
	if len(s.messages) > maxHistory {
		s.messages = s.messages[1:]
	}
	s.UpdatedAt = m.Timestamp
}

// respond streams the answer to one message as the original does: status, deltas, final.
func (g *Gateway) respond(ctx context.Context, cancel context.CancelFunc, s *session, run, question string) {
	defer g.answers.Done()
	defer cancel()
	seq := 0
	send := func(state string, more map[string]any) {
		seq++
		payload := map[string]any{"runId": run, "sessionKey": s.Key, "seq": seq, "state": state}
		for k, v := range more {
			payload[k] = v
		}
		g.broadcast("chat", payload, func(c *client) bool { return c.follows(s.Key) })
	}
	send("status", map[string]any{"phase": "preparing_workspace"})
	var sb strings.Builder
	aborted := false
	for _, part := range pieces(g.answer(question)) {
		select {
		case <-ctx.Done():
			aborted = true
		case <-time.After(g.c.Pace):
		}
		if aborted {
			break
		}
		sb.WriteString(part)
		send("delta", map[string]any{"deltaText": part})
	}
	m := said("assistant", sb.String(), run)
	g.mu.Lock()
	s.say(m)
	s.running = ""
	delete(g.runs, run)
	g.mu.Unlock()
	if aborted {
		send("aborted", map[string]any{"message": m})
	} else {
		send("final", map[string]any{"message": m})
	}
	g.changed(s.Key, "message")
}

func (g *Gateway) answer(question string) string {
	have := "No API key is configured yet."
	if names := g.keyNames(); len(names) > 0 {
		have = "Keys are configured for: " + strings.Join(names, ", ") + "."
	}
	return fmt.Sprintf("You said: “%s”\n\nI am CloudBot's stand-in: OpenClaw is not installed on this machine, so no model reads this. %s "+
		"The way from your browser to this machine and back works, as you can see from this answer arriving in pieces.", clipRunes(question, 400), have)
}

// pieces cuts a text after every second space or so, to be streamed.
func pieces(t string) []string {
	var out []string
	words := strings.SplitAfter(t, " ")
	for len(words) > 0 {
		n := min(4, len(words))
		out = append(out, strings.Join(words[:n], ""))
		words = words[n:]
	}
	return out
}

func clipRunes(s string, n int) string {
	r := []rune(s[:min(len(s), 4*n)])
	if len(r) > n {
		return string(r[:n]) + "…"
	}
	return strings.ToValidUTF8(string(r), "")
}
