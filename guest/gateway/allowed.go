package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What users allowed always is kept in the original's form (2026.9.6): an entry for each program that a command calls, with
// a hash of the folder and the arguments, then a marker with a hash of the command. The command itself is only in the
// history of approvals.

const (
	home       = "/home/user"
	maxAllowed = 200 // entries; later answers "allow-always" are like "allow-once"
)

type permission struct {
	ID         string `json:"id"`
	Pattern    string `json:"pattern"`
	ArgPattern string `json:"argPattern,omitempty"`
	Source     string `json:"source"`
	LastUsedAt int64  `json:"lastUsedAt,omitempty"`
}

type allowedAgent struct {
	Allowlist []permission `json:"allowlist"`
}

type allowedFile struct {
	Version  int                     `json:"version"`
	Defaults struct{}                `json:"defaults"`
	Agents   map[string]allowedAgent `json:"agents"`
}

// answered is an approval in the history.
type answered struct {
	ID           string         `json:"id"`
	Status       string         `json:"status"`
	Decision     string         `json:"decision,omitempty"`
	Presentation map[string]any `json:"presentation"`
	ResolvedAt   int64          `json:"resolvedAtMs"`
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// calls returns the programs that a command calls, each as the entry that allows it.
func calls(command string) []permission {
	var all []permission
	for part := range strings.SplitSeq(command, " && ") {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		subject := fmt.Sprintf("%d\x00%s\x00%d\x00", len(home), home, len(words)-1)
		for _, w := range words[1:] {
			subject += fmt.Sprintf("%d\x00%s\x00", len(w), w)
		}
		all = append(all, permission{Pattern: "/usr/bin/" + words[0], ArgPattern: "sha256:cwd-argv:v1:" + hash(subject), Source: "allow-always"})
	}
	return all
}

func marker(command string) permission {
	return permission{Pattern: "=node-command:" + hash(strings.TrimSpace(command))[:16], Source: "allow-always"}
}

func (p permission) same(q permission) bool {
	return p.Pattern == q.Pattern && p.ArgPattern == q.ArgPattern
}

// allows reports whether a command may run without asking, and records the use.
func (g *Gateway) allows(command string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	parts := calls(command)
	for _, p := range parts {
		i := slices.IndexFunc(g.allowed, p.same)
		if i < 0 {
			return false
		}
		g.allowed[i].LastUsedAt = time.Now().UnixMilli()
	}
	return len(parts) > 0
}

// recordLocked keeps how an approval ended.
func (g *Gateway) recordLocked(id, command, status, decision string) {
	now := time.Now().UnixMilli()
	g.history = append([]answered{{ID: id, Status: status, Decision: decision, ResolvedAt: now, Presentation: map[string]any{"kind": "exec", "commandText": command, "host": "gateway", "agentId": "main"}}}, g.history...)
	g.history = g.history[:min(len(g.history), maxAllowed)]
	if decision == "allow-always" {
		for _, p := range append(calls(command), marker(command)) {
			if !slices.ContainsFunc(g.allowed, p.same) && len(g.allowed) < maxAllowed {
				p.ID, p.LastUsedAt = rand.Text(), now
				g.allowed = append(g.allowed, p)
			}
		}
	}
	g.keepAllowedLocked()
}

// keptAllowed is the file with what users allowed always.
type keptAllowed struct {
	Version int          `json:"version"`
	Allowed []permission `json:"allowed"`
	History []answered   `json:"history"`
}

const (
	allowedName = "allowed.json"
	maxKeptFile = 4 << 20
)

func (g *Gateway) keepAllowedLocked() {
	if g.store == nil {
		return
	}
	g.store.do(func(sh *shelf) error {
		b, err := json.Marshal(keptAllowed{1, g.allowed, g.history})
		return errors.Join(err, sh.replace(allowedName, b))
	})
}

// restoreAllowed reads what users allowed before a restart.
func (g *Gateway) restoreAllowed(sh *shelf) {
	b := sh.read(allowedName, maxKeptFile)
	if b == nil {
		return
	}
	var k keptAllowed
	if err := json.Unmarshal(b, &k); err != nil || k.Version != 1 || len(k.Allowed) > maxAllowed || len(k.History) > maxAllowed {
		sh.setAside(allowedName, "it is not what the stand-in writes")
		return
	}
	g.allowed, g.history = k.Allowed, k.History
}

// documentLocked is what exec.approvals.get answers.
func (g *Gateway) documentLocked() map[string]any {
	file := allowedFile{Version: 1, Agents: map[string]allowedAgent{}}
	if len(g.allowed) > 0 {
		file.Agents["main"] = allowedAgent{slices.Clone(g.allowed)}
	}
	b, _ := json.Marshal(file)
	return map[string]any{"exists": true, "file": file, "hash": hash(string(b)), "resolvedDefaults": map[string]any{"security": "allowlist", "ask": "on-miss", "askFallback": "deny"}}
}

func approvalsGet(c *client, r request) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.answer(r.ID, c.g.documentLocked(), nil)
}

func approvalsSet(c *client, r request) {
	var p struct {
		File     *allowedFile
		BaseHash string
	}
	if !params(c, r, &p) {
		return
	}
	g := c.g
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case p.File == nil || p.File.Version != 1 || len(p.File.Agents["main"].Allowlist) > maxAllowed:
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "exec approvals file is required"})
		return
	case p.BaseHash != g.documentLocked()["hash"]:
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "exec approvals changed since last load; re-run exec.approvals.get and retry"})
		return
	}
	g.allowed = p.File.Agents["main"].Allowlist
	g.keepAllowedLocked()
	c.answer(r.ID, g.documentLocked(), nil)
}

func approvalHistory(c *client, r request) {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	c.answer(r.ID, map[string]any{"items": slices.Clone(c.g.history)}, nil)
}

// refusal is the original's result of a command that was not allowed. Its reason is user-denied or approval-timeout.
func (r *run) refusal(command, reason string) string {
	if r.ctx.Err() != nil {
		return "Aborted"
	}
	return fmt.Sprintf("Exec denied (gateway id=%s, %s): %s", r.approvalID, reason, command)
}
