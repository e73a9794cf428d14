package gateway

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const runLimit = 10 * time.Minute

// run is the running answer to one message. It sends the same events as the original: the states status, delta and one of
// final, aborted or error as chat events, and the use of tools as agent events.
type run struct {
	g       *Gateway
	s       *session
	sender  *client
	id      string // the message's idempotency key
	started time.Time
	ctx     context.Context
	cancel  context.CancelFunc

	// Guarded by g.mu, because chat.history returns them.
	chats, acts int // events sent, by kind
	text        strings.Builder
	calls       int
	transcript  []message // calls, each with the text before it, and results
	kept        int       // bytes of text that are in transcript
}

// respond runs the script of the question, then ends the run.
func (r *run) respond(question string) {
	defer r.g.answers.Done()
	defer r.cancel()
	r.status("preparing_workspace")
	failed := script(r, question)
	switch {
	case r.ctx.Err() != nil:
		r.end("aborted", nil)
	case failed != "":
		// The original reports some failures twice.
		failure := map[string]any{"errorMessage": failed, "errorKind": "unknown"}
		r.end("error", failure)
		r.send("error", failure)
	default:
		r.end("final", nil)
	}
	r.g.changed(r.s.Key, "message")
}

// pause waits for some paces and reports whether the run continues.
func (r *run) pause(times int) bool {
	return retry.Sleep(r.ctx, time.Duration(times)*r.g.c.Pace) == nil
}

func (r *run) status(phase string) { r.send("status", map[string]any{"phase": phase}) }

// stream sends a text in pieces, each after some paces.
func (r *run) stream(text string, times int) {
	for _, part := range pieces(text) {
		if !r.pause(times) {
			return
		}
		r.send("delta", map[string]any{"deltaText": part})
	}
}

// replace replaces the text sent so far.
func (r *run) replace(text string) {
	r.send("delta", map[string]any{"deltaText": text, "replace": true})
}

func (r *run) send(state string, more map[string]any) {
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	r.sendLocked(state, more)
}

func (r *run) sendLocked(state string, more map[string]any) {
	if text, ok := more["deltaText"].(string); ok {
		if more["replace"] == true {
			r.text.Reset()
			r.kept = 0
		}
		r.text.WriteString(text)
	}
	r.chats++
	payload := map[string]any{"runId": r.id, "sessionKey": r.s.Key, "seq": r.chats, "state": state}
	for k, v := range more {
		payload[k] = v
	}
	r.g.broadcastLocked("chat", payload, func(c *client) bool { return c.follows(r.s.Key) })
}

// end completes the transcript and sends the run's last state.
func (r *run) end(state string, more map[string]any) {
	g := r.g
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range r.transcript {
		g.say(r.s, m)
	}
	said := r.text.String()
	if rest := said[r.kept:]; rest != "" {
		m := spoken("assistant", rest, r.id)
		if state == "aborted" {
			m.Abort = &abort{Aborted: true, Origin: "rpc", RunID: r.id}
		}
		g.say(r.s, m)
	}
	if said != "" && more == nil { // the whole text, over all messages of the transcript
		whole := spoken("assistant", said, r.id)
		whole.Timestamp = time.Now().UnixMilli()
		more = map[string]any{"message": whole}
	}
	if r.s.running == r {
		r.s.running = nil
	}
	delete(g.runs, r.id)
	g.forgetLocked(r.id)
	r.sendLocked(state, more)
}

// tool sends the use of a tool: its start now; its output and result through the returned functions.
func (r *run) tool(name string, args map[string]any) (id string, update func(string), result func(text string, failed bool)) {
	r.g.mu.Lock()
	r.calls++
	id = "call_" + strconv.Itoa(r.calls)
	call := message{Role: "assistant", IdempotencyKey: r.id + ":tools"}
	if said := r.text.String()[r.kept:]; said != "" {
		call.Content = append(call.Content, content{Type: "text", Text: said})
		r.kept = r.text.Len()
	}
	call.Content = append(call.Content, content{Type: "toolCall", ID: id, Name: name, Arguments: args})
	r.transcript = append(r.transcript, call)
	r.g.mu.Unlock()
	r.act("tool", map[string]any{"phase": "start", "name": name, "toolCallId": id, "args": args})
	update = func(text string) {
		r.act("tool", map[string]any{"phase": "update", "name": name, "toolCallId": id, "partialResult": resultOf(text)})
	}
	result = func(text string, failed bool) {
		r.g.mu.Lock()
		r.transcript = append(r.transcript, message{Role: "toolResult", ToolCallID: id, ToolName: name, IsError: failed, Content: []content{{Type: "text", Text: text}}, Timestamp: time.Now().UnixMilli()})
		r.g.mu.Unlock()
		r.act("tool", map[string]any{"phase": "result", "name": name, "toolCallId": id, "isError": failed, "result": resultOf(text)})
	}
	return id, update, result
}

func resultOf(text string) map[string]any {
	return map[string]any{"content": []content{{Type: "text", Text: text}}}
}

// act sends an agent event to the clients that requested tool events when they connected.
func (r *run) act(stream string, data map[string]any) {
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	r.acts++
	payload := map[string]any{"runId": r.id, "sessionKey": r.s.Key, "seq": r.acts, "stream": stream, "ts": time.Now().UnixMilli(), "data": data}
	r.g.broadcastLocked("agent", payload, func(c *client) bool { return c.caps["tool-events"] && c.follows(r.s.Key) })
}

// pieces cuts a text after every fourth space or so, to be streamed.
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
