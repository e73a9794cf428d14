package gateway

import (
	"cmp"
	"context"
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
	words   string // that follow the name of a script
	cwd     string // where the command that it asks about runs; "": home

	approvalID string // of the latest approval that the run asked for

	// Guarded by g.mu, because chat.history returns them.
	chats, acts int // events sent, by kind
	text        strings.Builder
	calls       int
	transcript  []message // calls, each with the text before it, and results
	kept        int       // bytes of text that are in transcript
	drafted     int       // bytes of text on disk after those
	usage       *usage    // of the answer; nil: it cost nothing
}

// respond runs the script of the question, then ends the run. files describes what came with it.
func (r *run) respond(question, files string) {
	defer r.g.answers.Done()
	defer r.cancel()
	r.g.changed(r.s.Key, "message")
	r.status("preparing_workspace")
	if files != "" {
		r.stream("These files arrived on this machine:\n\n"+files+"\n", 1)
	}
	failed := ""
	if question != "" {
		failed = script(r, question)
	}
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
			r.kept, r.drafted = 0, 0
		}
		r.text.WriteString(text)
		// Each draft has the whole text since the latest tool, so it is saved when that has grown by a part of itself.
		if said := r.text.String()[r.kept:]; len(said) <= maxKept && len(said) > r.drafted+r.drafted/4 {
			r.drafted = len(said)
			r.save(record{Type: "draft", Run: r.id, Text: said})
		}
	}
	r.chats++
	payload := map[string]any{"runId": r.id, "sessionKey": r.s.Key, "seq": r.chats, "state": state}
	for k, v := range more {
		payload[k] = v
	}
	r.g.broadcastLocked("chat", payload, func(c *client) bool { return c.follows(r.s.Key) })
}

// add adds a tool's use or its result to the transcript.
func (r *run) add(m message) {
	r.drafted = 0
	r.transcript = append(r.transcript, m)
	r.save(record{Type: "draft", Run: r.id, Message: &m})
}

// save adds a line to the session's file, unless the session was deleted.
func (r *run) save(line record) {
	if r.g.sessions[r.s.Key] == r.s {
		r.g.store.add(r.s, line)
	}
}

// end completes the transcript and sends the run's last state.
func (r *run) end(state string, more map[string]any) {
	failed, _ := more["errorMessage"].(string)
	g := r.g
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range r.transcript {
		g.say(r.s, m)
	}
	said := r.text.String()
	rest, origin := said[r.kept:], "rpc"
	if state == "aborted" && g.closed {
		rest, origin = cmp.Or(rest, interrupted), "restart"
	}
	if rest != "" {
		m := spoken("assistant", rest, r.id)
		m.Usage = r.usage
		if state == "aborted" {
			m.Abort = &abort{Aborted: true, Origin: origin, RunID: r.id}
		}
		g.say(r.s, m)
	}
	if state == "error" { // as the original keeps it
		m := spoken("assistant", failed, r.id+":terminal-error")
		m.StopReason = "error"
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
	r.save(record{Type: "end", Run: r.id})
	delete(g.runs, r.id)
	g.forgetLocked(r.id)
	r.sendLocked(state, more)
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
