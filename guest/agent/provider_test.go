package agent_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// provider is a fake of every model provider: it answers each of their four APIs with the same words.
type provider struct {
	*httptest.Server
	mu     sync.Mutex
	calls  []call
	script []use    // tools that the model calls, one an answer, before the words; Anthropic's API only
	last   []byte   // body of the last request with tools
	tools  []string // that it offers
}

// frameID is in the result of a screenshot; clicks must name it.
var frameID = regexp.MustCompile(`frameId[\\"]*:\s*[\\"]*([A-Za-z0-9_:.-]+)`)

// use is a call of a tool, with its arguments in JSON; FRAME in them is the last screenshot's id.
type use struct{ tool, args string }

// call is one request for an answer.
type call struct{ path, key, model string }

func newProvider(t *testing.T) *provider {
	p := &provider{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", p.answer)
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

const words = "I heard you."

func (p *provider) answer(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Model string `json:"model"`
		Tools []struct {
			Name string `json:"name"`
		} `json:"tools"`
	}
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &ask)
	key := r.Header.Get("X-Api-Key") + r.Header.Get("X-Goog-Api-Key") + strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	p.mu.Lock()
	p.calls = append(p.calls, call{r.URL.Path, key, ask.Model})
	events := p.events(r.URL.Path, ask.Model)
	if len(ask.Tools) > 0 {
		p.last, p.tools = body, nil
		for _, t := range ask.Tools {
			p.tools = append(p.tools, t.Name)
		}
		if len(p.script) > 0 {
			next := p.script[0]
			if found := frameID.FindAllSubmatch(body, -1); len(found) > 0 {
				next.args = strings.ReplaceAll(next.args, "FRAME", string(found[len(found)-1][1]))
			}
			events, p.script = next.events(len(p.calls), ask.Model), p.script[1:]
		}
	}
	p.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range events {
		var typed struct {
			Type string `json:"type"`
		}
		_ = json.Unmarshal([]byte(e), &typed)
		if typed.Type != "" {
			fmt.Fprintf(w, "event: %s\n", typed.Type)
		}
		fmt.Fprintf(w, "data: %s\n\n", e)
	}
}

// events are the frames of an answer of Anthropic's API that calls the tool.
func (u use) events(n int, model string) []string {
	part, _ := json.Marshal(u.args)
	return []string{
		`{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"` + model + `","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}`,
		fmt.Sprintf(`{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_%d","name":%q,"input":{}}}`, n, u.tool),
		`{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":` + string(part) + `}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":2}}`,
		`{"type":"message_stop"}`,
	}
}

// events are the frames of one streamed answer.
func (p *provider) events(path, model string) []string {
	switch {
	case strings.HasSuffix(path, "/messages"):
		return []string{
			`{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"` + model + `","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}`,
			`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"` + words + `"}}`,
			`{"type":"content_block_stop","index":0}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}`,
			`{"type":"message_stop"}`,
		}
	case strings.Contains(path, "GenerateContent"):
		return []string{`{"candidates":[{"content":{"role":"model","parts":[{"text":"` + words + `"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1,"totalTokenCount":2}}`}
	case strings.HasSuffix(path, "/responses"):
		const item = `{"type":"message","id":"i","role":"assistant","status":"completed","content":[{"type":"output_text","text":"` + words + `","annotations":[]}]}`
		return []string{
			`{"type":"response.created","response":{"id":"r","status":"in_progress","output":[]}}`,
			`{"type":"response.output_item.added","output_index":0,"item":{"type":"message","id":"i","role":"assistant","status":"in_progress","content":[]}}`,
			`{"type":"response.content_part.added","item_id":"i","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}`,
			`{"type":"response.output_text.delta","item_id":"i","output_index":0,"content_index":0,"delta":"` + words + `"}`,
			`{"type":"response.output_item.done","output_index":0,"item":` + item + `}`,
			`{"type":"response.completed","response":{"id":"r","status":"completed","output":[` + item + `],"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2,"input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}}}}`,
		}
	}
	return []string{
		`{"id":"c","object":"chat.completion.chunk","created":1,"model":"` + model + `","choices":[{"index":0,"delta":{"role":"assistant","content":"` + words + `"},"finish_reason":null}]}`,
		`{"id":"c","object":"chat.completion.chunk","created":1,"model":"` + model + `","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`,
		`[DONE]`,
	}
}

// asked reports whether a request for the model's answer came with the key.
func (p *provider) asked(model, key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if (c.model == model || strings.Contains(c.path, "/models/"+model+":")) && c.key == key {
			return true
		}
	}
	return false
}

func (p *provider) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%+v", p.calls)
}

// picture checks that the model has got a picture of a whole screen, and keeps it in E2E_MACHINE_OUT.
func (p *provider) picture(t *testing.T, name string) {
	t.Helper()
	_, after, _ := strings.Cut(string(p.last), `"media_type":"image/`)
	_, after, _ = strings.Cut(after, `"data":"`)
	text, _, _ := strings.Cut(after, `"`)
	raw, _ := base64.StdEncoding.DecodeString(text)
	got, format, err := image.DecodeConfig(bytes.NewReader(raw))
	if err != nil || got.Width < 640 || got.Height*1280 != got.Width*800 {
		t.Errorf("picture: got %dx%d %s %v, want one of a 1280x800 screen and no error; tools: %v", got.Width, got.Height, format, err, p.tools)
	}
	if out := os.Getenv("E2E_MACHINE_OUT"); out != "" && err == nil {
		if err := os.WriteFile(filepath.Join(out, name+"."+format), raw, 0o644); err != nil {
			t.Error(err)
		}
	}
}
