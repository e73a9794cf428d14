package machine

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// provider is an OpenAI-compatible model that repeats what the user said.
type provider struct {
	mu   sync.Mutex
	auth []string      // Authorization of each turn
	held chan struct{} // a turn sends its first word and waits until this is closed; nil: it does not wait
	busy bool          // a turn waits
	pics int           // pictures that it has got
}

// seen returns how many pictures it has got.
func (p *provider) seen() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pics
}

// hold makes turns wait until they are released.
func (p *provider) hold() (let func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(chan struct{})
	p.held = held
	return func() {
		p.mu.Lock()
		p.held, p.busy = nil, false
		p.mu.Unlock()
		close(held)
	}
}

func (p *provider) waits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy
}

func startProvider(t *testing.T, l net.Listener) *provider {
	p := &provider{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", p.complete)
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return p
}

func (p *provider) complete(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
		Tools []json.RawMessage `json:"tools"`
	}
	_ = json.NewDecoder(r.Body).Decode(&ask)
	p.mu.Lock()
	p.auth = append(p.auth, r.Header.Get("Authorization"))
	held := p.held
	said, look, used := "nothing", false, false
	for _, m := range ask.Messages {
		look = look || m.Role == "user" && strings.Contains(string(m.Content), "look:")
		used = used || m.Role == "tool"
		p.pics += strings.Count(string(m.Content), "image_url\"")
		if _, after, ok := strings.Cut(string(m.Content), "say:"); ok && m.Role == "user" {
			said, _, _ = strings.Cut(after, ":")
		}
	}
	p.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	if look && !used && len(ask.Tools) > 0 { // it looks once
		fmt.Fprint(w, `data: {"id":"c0","object":"chat.completion.chunk","created":1,"model":"echo-1","choices":[{"index":0,"delta":{"role":"assistant","tool_calls":[`+
			`{"index":0,"id":"call_1","type":"function","function":{"name":"computer","arguments":"{\"action\":\"screenshot\"}"}}]},"finish_reason":null}]}`+"\n\n"+
			`data: {"id":"c0","object":"chat.completion.chunk","created":1,"model":"echo-1","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`+"\n\ndata: [DONE]\n\n")
		return
	}
	for _, word := range strings.SplitAfter("You said "+said+", and I heard it.", " ") {
		fmt.Fprintf(w, `data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"echo-1","choices":[{"index":0,"delta":{"role":"assistant","content":%q},"finish_reason":null}]}`+"\n\n", word)
		w.(http.Flusher).Flush()
		if held != nil {
			p.mu.Lock()
			p.busy = true
			p.mu.Unlock()
			select {
			case <-held:
			case <-r.Context().Done():
				return
			}
			held = nil
		}
	}
	fmt.Fprint(w, `data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"echo-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`+"\n\ndata: [DONE]\n\n")
}

// lastKey returns the Authorization of the last turn.
func (p *provider) lastKey() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.auth) == 0 {
		return ""
	}
	return p.auth[len(p.auth)-1]
}

// providerConfig is OpenClaw's configuration for the provider; the key is the one that the user stored.
const providerConfig = `{
  "models": {"providers": {"fake": {
    "baseUrl": "http://127.0.0.1:9099/v1", "apiKey": "${OPENAI_API_KEY}", "api": "openai-completions",
    "models": [{"id": "echo-1", "name": "Echo", "reasoning": false, "input": ["text", "image"],
      "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}, "contextWindow": 128000, "maxTokens": 4096}]
  }}},
  "agents": {"defaults": {"workspace": "/home/cloudbot/workspace", "model": {"primary": "fake/echo-1"}, "heartbeat": {"every": "0m"}}}
}
`
