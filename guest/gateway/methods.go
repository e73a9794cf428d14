package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"
)

type method struct {
	scope string // "": see deleteScope
	do    func(*client, request)
}

// methods lists the methods of the stand-in; the original has hundreds more.
var methods = map[string]method{
	"health":                        {"operator.read", health},
	"status":                        {"operator.read", health},
	"models.list":                   {"operator.read", modelsList},
	"sessions.list":                 {"operator.read", sessionsList},
	"sessions.create":               {"operator.write", sessionsCreate},
	"sessions.patch":                {"operator.write", sessionsPatch},
	"sessions.delete":               {"", sessionsDelete},
	"sessions.subscribe":            {"operator.read", sessionsSubscribe(true)},
	"sessions.unsubscribe":          {"operator.read", sessionsSubscribe(false)},
	"sessions.messages.subscribe":   {"operator.read", messagesSubscribe(true)},
	"sessions.messages.unsubscribe": {"operator.read", messagesSubscribe(false)},
	"chat.history":                  {"operator.read", chatHistory},
	"chat.send":                     {"operator.write", chatSend},
	"chat.abort":                    {"operator.write", chatAbort},
	"artifacts.download":            {"operator.read", artifactsDownload},
	"exec.approval.list":            {"operator.approvals", approvalList},
	"exec.approval.resolve":         {"operator.approvals", approvalResolve},
	"exec.approvals.get":            {admin, approvalsGet},
	"exec.approvals.set":            {admin, approvalsSet},
	"approval.history":              {"operator.approvals", approvalHistory},
	"plugin.approval.list":          {"operator.approvals", pluginApprovalList},
	"question.list":                 {"operator.questions", questionList},
	"question.resolve":              {"operator.questions", questionResolve},
	"cron.list":                     {"operator.read", cronList},
	"cron.add":                      {admin, cronAdd},
	"cron.remove":                   {admin, cronRemove},
}

func methodNames() []string { return slices.Sorted(maps.Keys(methods)) }

const (
	mainKey     = "agent:main:main"
	maxSessions = 200
	maxHistory  = 500 // messages kept for each session
	maxKept     = 64 << 10
)

type session struct {
	Key       string    `json:"key"`
	Kind      string    `json:"kind"`
	Label     string    `json:"label,omitempty"`
	Title     string    `json:"derivedTitle,omitempty"`
	Archived  bool      `json:"archived,omitempty"`
	UpdatedAt int64     `json:"updatedAt"`
	Active    bool      `json:"hasActiveRun,omitempty"`
	messages  []message // oldest first
	seq       int       // of the latest message
	running   *run      // the running answer; nil: none
	sent      []sending // messages accepted since the start, newest last
	ended     string    // the run whose end was read from disk
	drafts    []message // of a run whose end was not, without its latest text
	draft     string    // that text
	unsaved   bool      // its file lacks messages
}

// sending is what a message is known by when it is sent again. As the original, the stand-in forgets it when it restarts.
type sending struct {
	key  string
	text [sha256.Size]byte
}

type message struct {
	Role           string    `json:"role"`
	Content        []content `json:"content"`
	Timestamp      int64     `json:"timestamp"`
	IdempotencyKey string    `json:"idempotencyKey,omitempty"`
	ToolCallID     string    `json:"toolCallId,omitempty"`
	ToolName       string    `json:"toolName,omitempty"`
	IsError        bool      `json:"isError,omitempty"`
	StopReason     string    `json:"stopReason,omitempty"` // "error": the content is why the run failed
	Abort          *abort    `json:"openclawAbort,omitempty"`
	Usage          *usage    `json:"usage,omitempty"` // of the model, in a message of the agent
	Meta           *meta     `json:"__openclaw,omitempty"`
}

type abort struct {
	Aborted bool   `json:"aborted"`
	Origin  string `json:"origin"`
	RunID   string `json:"runId"`
}

type meta struct {
	ID    string  `json:"id"`
	Seq   int     `json:"seq"`
	Media []media `json:"media,omitempty"` // files that came with the message
}

type content struct {
	Type      string         `json:"type"`
	Text      string         `json:"text,omitempty"`
	ID        string         `json:"id,omitempty"`
	Name      string         `json:"name,omitempty"`
	Arguments map[string]any `json:"arguments,omitempty"`
	MimeType  string         `json:"mimeType,omitempty"` // of a picture
	Data      string         `json:"data,omitempty"`     // a picture in base64
	Alt       string         `json:"alt,omitempty"`      // what it shows
	// Of a picture that is left out: see leftOut.
	ArtifactID string `json:"artifactId,omitempty"`
	Omitted    bool   `json:"omitted,omitempty"`
	Bytes      int    `json:"bytes,omitempty"`
}

func spoken(role, text, key string) message {
	return message{Role: role, Content: []content{{Type: "text", Text: text}}, IdempotencyKey: key}
}

// canonical returns the full key of "main" and other short keys.
func canonical(key string) string {
	if key == "" || key == "main" {
		return mainKey
	}
	if strings.HasPrefix(key, "agent:") {
		return key
	}
	return "agent:main:" + key
}

// params decodes the parameters into v. If that fails, it answers the request.
func params(c *client, r request, v any) bool {
	if len(r.Params) == 0 {
		return true
	}
	if err := json.Unmarshal(r.Params, v); err != nil {
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "invalid params"})
		return false
	}
	return true
}

func health(c *client, r request) {
	c.answer(r.ID, map[string]any{"ok": true, "standIn": true, "uptimeMs": time.Since(c.g.started).Milliseconds(), "keys": c.g.keyNames()}, nil)
}

func modelsList(c *client, r request) {
	c.answer(r.ID, map[string]any{"models": []any{map[string]any{"id": "stand-in/echo", "name": "Stand-in (echo)"}}}, nil)
}

func sessionsList(c *client, r request) {
	p := struct {
		Limit    int
		Archived bool
	}{Limit: 50}
	if !params(c, r, &p) {
		return
	}
	g := c.g
	g.mu.Lock()
	all := make([]session, 0, len(g.sessions))
	for _, s := range g.sessions {
		if s.Archived == p.Archived {
			row := *s
			row.Active = s.running != nil
			all = append(all, row)
		}
	}
	g.mu.Unlock()
	sort.Slice(all, func(i, j int) bool {
		if all[i].UpdatedAt != all[j].UpdatedAt {
			return all[i].UpdatedAt > all[j].UpdatedAt
		}
		return all[i].Key < all[j].Key
	})
	if p.Limit > 0 && len(all) > p.Limit {
		all = all[:p.Limit]
	}
	c.answer(r.ID, map[string]any{"ts": time.Now().UnixMilli(), "count": len(all), "sessions": all}, nil)
}

func sessionsCreate(c *client, r request) {
	var p struct{ Key, Label string }
	if !params(c, r, &p) {
		return
	}
	if p.Key == "" {
		p.Key = strings.ToLower(rand.Text())
	}
	key := canonical(p.Key)
	g := c.g
	g.mu.Lock()
	s, exists := g.sessions[key]
	if !exists && len(g.sessions) < maxSessions {
		s = &session{Key: key, Kind: "direct", Label: clip(p.Label, 200), UpdatedAt: time.Now().UnixMilli()}
		g.sessions[key] = s
		g.store.list(g.sessions)
	}
	g.mu.Unlock()
	if s == nil {
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "too many sessions"})
		return
	}
	c.answer(r.ID, map[string]any{"ok": true, "key": key, "created": !exists}, nil)
	g.changed(key, "create")
}

func sessionsPatch(c *client, r request) {
	var p struct {
		Key      string
		Label    *string
		Archived *bool
	}
	if !params(c, r, &p) {
		return
	}
	key := canonical(p.Key)
	g := c.g
	g.mu.Lock()
	s := g.sessions[key]
	if s != nil && p.Label != nil {
		s.Label, s.UpdatedAt = clip(*p.Label, 200), time.Now().UnixMilli()
	}
	if s != nil && p.Archived != nil && key != mainKey {
		s.Archived = *p.Archived
	}
	if s != nil {
		g.store.list(g.sessions)
	}
	g.mu.Unlock()
	if s == nil {
		c.answer(r.ID, nil, &failure{Code: "NOT_FOUND", Message: "no such session"})
		return
	}
	c.answer(r.ID, map[string]any{"ok": true, "key": key}, nil)
	g.changed(key, "patch")
}

// deleteScope returns the scope that sessions.delete requires: for archived sessions, the right to write is enough.
func deleteScope(raw json.RawMessage) string {
	var p struct{ ArchivedOnly bool }
	if json.Unmarshal(raw, &p) == nil && p.ArchivedOnly {
		return "operator.write"
	}
	return admin
}

func sessionsDelete(c *client, r request) {
	var p struct {
		Key          string
		ArchivedOnly bool
	}
	if !params(c, r, &p) {
		return
	}
	key := canonical(p.Key)
	if key == mainKey {
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "Cannot delete the main session (" + mainKey + ")."})
		return
	}
	g := c.g
	g.mu.Lock()
	s := g.sessions[key]
	if s != nil && p.ArchivedOnly && !s.Archived {
		g.mu.Unlock()
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "The session is not archived. Archive it first, then delete it."})
		return
	}
	if s != nil && s.running != nil {
		s.running.cancel()
	}
	delete(g.sessions, key)
	if s != nil {
		g.store.unfile(s)
		g.store.remove(key)
		g.store.list(g.sessions)
	}
	g.mu.Unlock()
	c.answer(r.ID, map[string]any{"ok": true, "key": key, "deleted": s != nil, "archived": []string{}}, nil)
	g.changed(key, "delete")
}

func (g *Gateway) changed(key, reason string) {
	g.broadcast("sessions.changed", map[string]any{"sessionKey": key, "reason": reason, "ts": time.Now().UnixMilli()}, (*client).followsAll)
}

// followsAll reports whether the client gets the messages of all sessions, as the original sends them.
func (c *client) followsAll() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions
}

func sessionsSubscribe(on bool) func(*client, request) {
	return func(c *client, r request) {
		c.mu.Lock()
		c.sessions = on
		c.mu.Unlock()
		c.answer(r.ID, map[string]any{"subscribed": on}, nil)
	}
}

func messagesSubscribe(on bool) func(*client, request) {
	return func(c *client, r request) {
		var p struct{ Key string }
		if !params(c, r, &p) {
			return
		}
		key := canonical(p.Key)
		c.mu.Lock()
		full := on && len(c.messages) >= maxSessions
		if on && !full {
			c.messages[key] = true
		} else if !on {
			delete(c.messages, key)
		}
		c.mu.Unlock()
		if full {
			c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "too many subscriptions"})
			return
		}
		c.answer(r.ID, map[string]any{"subscribed": on, "key": key}, nil)
	}
}

func (c *client) follows(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.messages[key]
}
