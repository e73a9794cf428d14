package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

const (
	maxID      = 256 // bytes of an id
	maxKey     = 512 // bytes of a session key
	maxAnswers = 32  // questions, and answers to one
	maxAnswer  = 8 << 10
)

var (
	errMethod = errors.New("this connection does not carry out that method")
	errParams = errors.New("invalid parameters")
	errPrompt = errors.New("unknown or expired id")
)

// checked returns the parameters with which the gateway gets a request: only fields that are known here, so that nothing
// else of an administrator's rights can be used. find returns a prompt that waits, or nil.
func checked(method string, raw json.RawMessage, find func(kind, string) *prompt) (params any, err error) {
	switch method {
	case "chat.abort":
		var p struct {
			SessionKey string `json:"sessionKey"`
			RunID      string `json:"runId,omitempty"`
		}
		if strict(raw, &p) != nil || !sessionKey(p.SessionKey) || len(p.RunID) > maxID {
			return nil, errParams
		}
		return p, nil
	case execApproval.resolve(), pluginApproval.resolve():
		var p struct {
			ID       string `json:"id"`
			Decision string `json:"decision"`
		}
		if strict(raw, &p) != nil || !slices.Contains([]string{"allow-once", "allow-always", "deny"}, p.Decision) {
			return nil, errParams
		}
		if find(kind(strings.TrimSuffix(method, ".resolve")), p.ID) == nil {
			return nil, errPrompt // the gateway would also take the beginning of an id
		}
		return p, nil
	case question.resolve():
		var p resolution
		if strict(raw, &p) != nil || !p.valid() {
			return nil, errParams
		}
		if find(question, p.ID) == nil {
			return nil, errPrompt
		}
		return p, nil
	}
	return nil, errMethod
}

// resolution answers or cancels a set of questions.
type resolution struct {
	ID      string   `json:"id"`
	Cancel  bool     `json:"cancel,omitempty"`
	Answers *answers `json:"answers,omitempty"`
}

type answers struct {
	Answers map[string][]string `json:"answers"`
}

func (r resolution) valid() bool {
	if r.Cancel == (r.Answers != nil) {
		return false
	}
	if r.Answers == nil {
		return true
	}
	for id, list := range r.Answers.Answers {
		if len(id) > maxID || len(list) > maxAnswers || slices.ContainsFunc(list, func(a string) bool { return len(a) > maxAnswer }) {
			return false
		}
	}
	return len(r.Answers.Answers) <= maxAnswers
}

// strict decodes one object without unknown fields.
func strict(raw json.RawMessage, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errParams
	}
	return nil
}

// sessionKey reports whether key names one chat. The gateway's own "global" and "unknown" name none.
func sessionKey(key string) bool {
	return key != "" && len(key) <= maxKey && key != "*" && !strings.EqualFold(strings.TrimSpace(key), "global") &&
		!strings.EqualFold(strings.TrimSpace(key), "unknown") && !strings.ContainsFunc(key, unicode.IsControl)
}

// listed returns the answer to a list method, as the gateway would give it; nil: it is another method, or the gateway
// is away.
func (o *Operator) listed(method string) json.RawMessage {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.list() == method })
	o.mu.Lock()
	defer o.mu.Unlock()
	if i < 0 || !o.listening {
		return nil
	}
	list, size := []json.RawMessage{}, 0
	for _, p := range o.prompts {
		if p.kind == kinds[i] && size+len(p.raw) < maxList {
			list, size = append(list, p.raw), size+len(p.raw)+1
		}
	}
	var payload any = list
	if kinds[i] == question {
		payload = map[string]any{"questions": list}
	}
	b, _ := json.Marshal(payload) // raw messages that were parsed before
	return b
}

// failure is an error in the gateway's form.
func failure(code, message string, retry bool) json.RawMessage {
	f := map[string]any{"code": code, "message": message}
	if retry {
		f["retryable"], f["retryAfterMs"] = true, 1000
	}
	b, _ := json.Marshal(f)
	return b
}

// acts has the methods that only a user's own act leads to.
var acts = map[string]bool{
	"chat.abort": true, execApproval.resolve(): true, pluginApproval.resolve(): true, question.resolve(): true, wire.AllowedRemove: true,
}

const awayText = "The agent is not connected; try again in a few seconds."

// do carries out one request of the control plane.
func (d *door) do(r wire.OperatorRequest) wire.OperatorLine {
	if r.Method == wire.ControlTake || r.Method == wire.ControlGive {
		return d.o.use(r)
	}
	if d.o.c.Acted != nil && acts[r.Method] {
		d.o.c.Acted()
	}
	line := wire.OperatorLine{ID: r.ID}
	if r.Method == wire.AllowedList || r.Method == wire.AllowedRemove {
		return d.o.allowed(d.ctx, r)
	}
	if list := d.o.listed(r.Method); list != nil {
		line.OK, line.Payload = true, list
		return line
	}
	away := failure("UNAVAILABLE", awayText, true)
	params, err := checked(r.Method, r.Params, d.o.find)
	if errors.Is(err, errPrompt) {
		d.o.refresh(d.ctx, kind(strings.TrimSuffix(r.Method, ".resolve")))
		params, err = checked(r.Method, r.Params, d.o.find)
	}
	switch {
	case errors.Is(err, errMethod) && wire.OperatorMethod(r.Method): // a list
		line.Error = away
		return line
	case err != nil:
		line.Error = failure("INVALID_REQUEST", err.Error(), false)
		return line
	}
	a, err := d.o.call(d.ctx, r.Method, params)
	switch {
	case err != nil:
		line.Error = away
	default:
		line.OK, line.Payload, line.Error = a.ok, a.payload, a.failure
	}
	if len(escaped(line.Payload))+len(escaped(line.Error)) > maxList {
		line = wire.OperatorLine{ID: r.ID, Error: failure("INTERNAL", "The agent's answer is too long.", false)}
	}
	return line
}
