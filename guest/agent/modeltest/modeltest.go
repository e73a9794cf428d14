// Package modeltest is a language model for tests of the real agent. It answers as the API of each provider does, and
// records what it was asked. The one thing to know: in a turn (see Play) the test itself is the model. It calls one tool
// after the other, and gets each result before it chooses the next call.
package modeltest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// Words is the answer to every request outside a turn, except one with say:NAME: in it, to which the answer is Said(NAME).
const Words = "I heard you."

// Said is the answer to a message with say:NAME:.
func Said(name string) string { return "You said " + name + ", and I heard it." }

var say = regexp.MustCompile(`say:([\w-]+):`)

// Model is the model of every provider.
type Model struct {
	URL string // without a path

	t     testing.TB
	mu    sync.Mutex
	calls []call
	turn  *Turn
}

// call is one request for an answer.
type call struct{ path, key, model string }

// Start serves the model until the test ends; l nil: on a free port of loopback.
func Start(t testing.TB, l net.Listener) *Model {
	t.Helper()
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	m := &Model{URL: "http://" + l.Addr().String(), t: t}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /", m.answer)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return m
}

func (m *Model) answer(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Model string            `json:"model"`
		Tools []json.RawMessage `json:"tools"`
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	_ = json.Unmarshal(body, &ask)
	key := r.Header.Get("X-Api-Key") + r.Header.Get("X-Goog-Api-Key") + strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	m.mu.Lock()
	m.calls = append(m.calls, call{r.URL.Path, key, ask.Model})
	turn := m.turn
	m.mu.Unlock()
	text := Words
	if all := say.FindAllSubmatch(body, -1); len(all) > 0 {
		text = Said(string(all[len(all)-1][1]))
	}
	next := reply{text: text}
	if turn != nil && len(ask.Tools) > 0 { // requests without tools are for titles and the like
		var ok bool
		if next, ok = turn.wait(r.Context(), body); !ok {
			return
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range next.events(r.URL.Path, ask.Model) {
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

// Asked reports whether a request for the model's answer came with the key.
func (m *Model) Asked(model, key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.calls {
		if (c.model == model || strings.Contains(c.path, "/models/"+model+":")) && c.key == key {
			return true
		}
	}
	return false
}

// Count returns the number of requests.
func (m *Model) Count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.calls)
}

// LastKey returns the key of the last request.
func (m *Model) LastKey() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.calls) == 0 {
		return ""
	}
	return m.calls[len(m.calls)-1].key
}

// String lists the requests.
func (m *Model) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprintf("%+v", m.calls)
}
