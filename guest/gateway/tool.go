package gateway

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// use is one use of a tool by a run.
type use struct {
	r       *run
	id      string
	name    string
	title   string
	args    map[string]any
	meta    string
	started int64
}

// tool sends the start of a tool. Its output and its result are sent through what it returns.
func (r *run) tool(name string, args map[string]any) *use {
	r.g.mu.Lock()
	r.calls++
	u := &use{r: r, id: "call_" + r.id + "_" + strconv.Itoa(r.calls), name: name, args: args, meta: summary(args), started: time.Now().UnixMilli()}
	u.title = strings.TrimSpace(strings.ToUpper(name[:1]) + name[1:] + " " + u.meta)
	call := message{Role: "assistant", IdempotencyKey: r.id + ":tools", Timestamp: u.started, Meta: &meta{ID: rand.Text()}}
	if said := r.text.String()[r.kept:]; said != "" {
		call.Content = append(call.Content, content{Type: "text", Text: said})
		r.kept = r.text.Len()
	}
	call.Content = append(call.Content, content{Type: "toolCall", ID: u.id, Name: name, Arguments: args})
	r.add(call)
	r.g.mu.Unlock()
	u.item("start", "running")
	r.act("tool", map[string]any{"phase": "start", "name": name, "toolCallId": u.id, "args": args})
	return u
}

// again begins the same use of the tool another time.
func (u *use) again() *use { return u.r.tool(u.name, u.args) }

// update sends what the tool has put out so far.
func (u *use) update(text string) {
	u.r.act("tool", map[string]any{"phase": "update", "name": u.name, "toolCallId": u.id, "partialResult": resultOf(words(text))})
}

// done sends a good result, failed a bad one.
func (u *use) done(text string)   { u.result(false, words(text)) }
func (u *use) failed(text string) { u.result(true, words(text)) }

func (u *use) result(failed bool, parts ...content) {
	r := u.r
	r.g.mu.Lock()
	r.add(message{Role: "toolResult", ToolCallID: u.id, ToolName: u.name, IsError: failed, Content: parts, Timestamp: time.Now().UnixMilli(), Meta: &meta{ID: rand.Text()}})
	r.g.mu.Unlock()
	r.act("tool", map[string]any{"phase": "result", "name": u.name, "toolCallId": u.id, "isError": failed, "result": resultOf(leftOut(parts, nil)...)})
	status := "completed"
	if failed {
		status = "failed"
	}
	u.item("end", status)
}

func words(text string) content { return content{Type: "text", Text: text} }

func resultOf(parts ...content) map[string]any { return map[string]any{"content": parts} }

// summary describes arguments in a few words, as the original does.
func summary(args map[string]any) string {
	if command, ok := args["command"].(string); ok {
		return clipRunes(command, 120)
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(args)) {
		all = append(all, fmt.Sprint(name, " ", args[name]))
	}
	return clipRunes(strings.Join(all, ", "), 120)
}

// act sends an agent event to the clients that requested tool events when they connected.
func (r *run) act(stream string, data map[string]any) {
	r.tell(stream, data, func(c *client) bool { return c.caps["tool-events"] && c.follows(r.s.Key) })
}

// item sends that a tool begins or ends to every client that may read.
func (u *use) item(phase, status string) {
	data := map[string]any{
		"itemId": "tool:" + u.id, "toolCallId": u.id, "name": u.name, "kind": "tool", "phase": phase, "title": u.title,
		"status": status, "meta": u.meta, "commandBearing": u.name == "exec", "startedAt": u.started,
	}
	if phase == "end" {
		data["endedAt"] = time.Now().UnixMilli()
	}
	u.r.tell("item", data, func(c *client) bool { return c.holds("operator.read") })
}

func (r *run) tell(stream string, data map[string]any, hears func(*client) bool) {
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	r.acts++
	payload := map[string]any{"runId": r.id, "sessionKey": r.s.Key, "seq": r.acts, "stream": stream, "ts": time.Now().UnixMilli(), "data": data}
	r.g.broadcastLocked("agent", payload, hears)
}
