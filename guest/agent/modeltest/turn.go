package modeltest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	_ "image/jpeg" // the agent's pictures
	_ "image/png"
	"regexp"
	"strings"
	"time"
)

// patience is how long a test waits for the agent's next request. The first one of a cold agent takes half a minute.
const patience = 3 * time.Minute

// Turn is a turn in which the test is the model.
type Turn struct {
	m     *Model
	asked chan request
	over  chan struct{} // closed when the test's script has ended
	ended chan struct{} // closed when the user's message has its answer
	text  string
	err   error

	now   *request // waits for the test's reply; nil: none
	calls int
	frame string // of the last screenshot
	seen  Result
}

// request waits for the test's reply.
type request struct {
	gone  <-chan struct{} // closed when the agent gives up on it
	body  []byte
	reply chan reply
}

// Result is what came of a call.
type Result struct {
	Text    string      // all texts of the result
	Picture image.Image // the last picture in it; nil: none
	Raw     []byte      // of the picture, as it came
	Format  string      // png or jpeg
	Request []byte      // the whole conversation, as the model gets it
}

// Play sends a message with ask, which returns the agent's answer, and lets script be the model. After it the model says
// Words, and Play returns the agent's answer.
func (m *Model) Play(ask func() (string, error), script func(*Turn)) (text string, err error) {
	m.t.Helper()
	u := &Turn{m: m, asked: make(chan request), over: make(chan struct{}), ended: make(chan struct{})}
	m.set(u)
	go func() { defer close(u.ended); u.text, u.err = ask() }()
	func() {
		defer func() { // script may end the test
			close(u.over)
			<-u.ended
			m.set(nil)
		}()
		script(u)
	}()
	return u.text, u.err
}

func (m *Model) set(u *Turn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn = u
}

// wait hands a request to the test and returns its reply; false: the agent gave up.
func (u *Turn) wait(ctx context.Context, body []byte) (reply, bool) {
	r := request{ctx.Done(), body, make(chan reply)}
	select {
	case u.asked <- r:
	case <-u.over:
		return reply{text: Words}, true
	case <-r.gone:
		return reply{}, false
	}
	select {
	case got := <-r.reply:
		return got, true
	case <-u.over:
		return reply{text: Words}, true
	case <-r.gone:
		return reply{}, false
	}
}

// Next waits until the agent asks the model, and returns what the last call came to.
func (u *Turn) Next() Result {
	u.m.t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		if u.now != nil {
			select {
			case <-u.now.gone:
			default:
				return result(u.now.body)
			}
		}
		select {
		case r := <-u.asked:
			u.now = &r
		case <-u.ended:
			u.m.t.Fatalf("the model's turn: got the answer %q %v after %d calls, want another request", u.text, u.err, u.calls)
		case <-late.C:
			u.m.t.Fatalf("the model's turn: got no request within %s after %d calls, want one", patience, u.calls)
		}
	}
}

// frameID is in the result of a screenshot; clicks must name it.
var frameID = regexp.MustCompile(`\bframeId ([0-9a-f]+(?:-[0-9a-f]+){4})`)

// Use calls a tool with arguments in JSON, and returns the result. FRAME in the arguments is the last screenshot's id.
func (u *Turn) Use(tool, args string) Result {
	u.m.t.Helper()
	u.Next()
	u.calls++
	u.answer(reply{tool: tool, args: strings.ReplaceAll(args, "FRAME", u.frame), n: u.calls})
	got := u.Next()
	if found := frameID.FindAllStringSubmatch(got.Text, -1); len(found) > 0 {
		u.frame = found[len(found)-1][1]
	}
	if got.Picture != nil {
		u.seen = got
	}
	return got
}

// Say ends the agent's answer with a text of the test's own.
func (u *Turn) Say(text string) {
	u.m.t.Helper()
	u.Next()
	u.answer(reply{text: text})
}

func (u *Turn) answer(r reply) {
	select {
	case u.now.reply <- r:
	case <-u.now.gone:
	}
	u.now = nil
}

// Look takes a screenshot. The tool leaves a picture out if the screen has not changed since the last one, so the result is
// the last one then.
func (u *Turn) Look() Result {
	u.m.t.Helper()
	got := u.Use("computer", `{"action":"screenshot"}`)
	if got.Picture == nil && strings.Contains(got.Text, "screen unchanged") {
		got = u.seen
	}
	if got.Picture == nil {
		u.m.t.Fatalf("screenshot: got %s, want a picture; tools: %v", got, got.Offered())
	}
	return got
}

// Click clicks at a point of the screen, of which the model has seen the last picture.
func (u *Turn) Click(p, screen image.Point) Result {
	u.m.t.Helper()
	size := screen // a run that may not look knows no other
	if u.seen.Picture != nil {
		size = u.seen.Picture.Bounds().Size()
	}
	return u.Use("computer", fmt.Sprintf(`{"action":"left_click","coordinate":[%d,%d],"frameId":"FRAME"}`, p.X*size.X/screen.X, p.Y*size.Y/screen.Y))
}

// Offered returns the names of the tools that the model may call.
func (r Result) Offered() (names []string) {
	var ask struct {
		Tools []struct {
			Name     string
			Function struct{ Name string }
		}
	}
	_ = json.Unmarshal(r.Request, &ask)
	for _, t := range ask.Tools {
		names = append(names, t.Name+t.Function.Name)
	}
	return names
}

// result finds what follows the model's last message.
func result(body []byte) Result {
	r := Result{Request: body}
	var ask struct{ Messages []map[string]any }
	_ = json.Unmarshal(body, &ask)
	last := 0
	for i, m := range ask.Messages {
		if m["role"] == "assistant" {
			last = i + 1
		}
	}
	var texts []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, name := range []string{"content", "source", "image_url"} {
				walk(v[name])
			}
			for _, name := range []string{"text", "content"} {
				if s, ok := v[name].(string); ok {
					texts = append(texts, s)
				}
			}
			data, _ := v["data"].(string)
			if url, ok := v["url"].(string); ok {
				_, data, _ = strings.Cut(url, ";base64,")
			}
			if raw, err := base64.StdEncoding.DecodeString(data); err == nil && data != "" {
				r.picture(raw)
			}
		}
	}
	for _, m := range ask.Messages[last:] {
		walk(m)
	}
	r.Text = strings.Join(texts, "\n")
	return r
}

func (r *Result) picture(raw []byte) {
	if m, format, err := image.Decode(bytes.NewReader(raw)); err == nil {
		r.Picture, r.Raw, r.Format = m, raw, format
	}
}

// OK reports whether the computer did what the model wanted.
func (r Result) OK() bool { return strings.Contains(r.Text, `"ok":true`) }

// String describes the result in a line for a test's failure.
func (r Result) String() string {
	s, _, _ := strings.Cut(r.Text, "\n<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>")
	if len(s) > 2000 {
		s = s[:2000] + "…"
	}
	if r.Picture == nil {
		return fmt.Sprintf("%q without a picture", s)
	}
	return fmt.Sprintf("%q with a picture of %v", s, r.Picture.Bounds().Size())
}
