package guest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/cloudbot-ai/control-plane/guest/install"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRedactor(t *testing.T) {
	t.Parallel()
	var r Redactor
	const key = "plain-looking+value/1"
	r.Know("keys", key)
	for in, want := range map[string]string{
		"a " + key + " b": "a [redacted] b",
		"url=" + strings.ReplaceAll(strings.ReplaceAll(key, "+", "%2B"), "/", "%2F"): "url=[redacted]",
		base64.StdEncoding.EncodeToString([]byte(key)):                               "[redacted]",
		"use sk-ant-api03-abcdefghijkl now":                                          "use [redacted] now",
		"AIzaSyA1234567890abcdefghijklmn":                                            "[redacted]",
		"Authorization: Bearer abcdef0123":                                           "Authorization: Bearer [redacted]",
		`{"api_key":"whatever1"}`:                                                    `{"api_key":"[redacted]"}`,
		"password=hunter22&x=1":                                                      "password=[redacted]&x=1",
		"nothing to hide: 1280x800":                                                  "nothing to hide: 1280x800",
		"risk-free task-force":                                                       "risk-free task-force",
	} {
		if got := r.Clean(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	r.Know("keys", "another-value")
	if got := r.Clean(key); got != key {
		t.Error("a replaced value is still removed")
	}
}

func TestLogRedactsWhatArrivesInPieces(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var r Redactor
	r.Know("keys", "canary-value-1")
	l := NewLog(&out, &r, newPhases().present)
	w := l.Writer("p: ")
	for _, piece := range []string{"one canary-", "value-1 two\nthr", "ee\n"} {
		_, _ = io.WriteString(w, piece)
	}
	if want := "p: one [redacted] two\np: three\n"; l.Text() != want || out.String() != want {
		t.Errorf("ring %q, out %q, want l.Text() %v and out.String() %v", l.Text(), out.String(), want, want)
	}
	for range 2000 {
		_, _ = io.WriteString(w, strings.Repeat("x", 500)+"\n")
	}
	if n := len(l.Text()); n > ringBytes+1 {
		t.Errorf("the ring holds %d bytes, want at most %v", n, ringBytes+1)
	}
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	k := newKeyring(&Redactor{})
	_, changed := k.Env()
	k.set(map[string]string{"OPENAI_API_KEY": "v", "PATH": "/evil", "LD_PRELOAD": "x", "lower_API_KEY": "x", "EMPTY_API_KEY": ""})
	<-changed
	<-k.arrived
	env, changed := k.Env()
	if len(env) != 1 || env["OPENAI_API_KEY"] != "v" {
		t.Errorf("kept %v, want len(env) 1 and env[\"OPENAI_API_KEY\"] \"v\"", env)
	}
	k.set(map[string]string{"OPENAI_API_KEY": "v"})
	select {
	case <-changed:
		t.Error("the same keys count as a change")
	default:
	}
	k.set(nil)
	<-changed
}

func TestMachineKeyStays(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	a, err := machineKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := machineKey(dir)
	if err != nil || !a.Equal(b) {
		t.Errorf("another key the second time: got %v, want no error and %v", err, b)
	}
	if st, err := os.Stat(filepath.Join(dir, keyFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v, want no error and 0o600", st.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyFile), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := machineKey(dir); err == nil {
		t.Error("a damaged key was taken")
	}
}

func TestConfigRefusals(t *testing.T) {
	t.Parallel()
	good := map[string]any{"control_plane_url": "https://x.example", "instance": "i", "token": "t"}
	load := func(change map[string]any) error {
		m := map[string]any{}
		for k, v := range good {
			m[k] = v
		}
		for k, v := range change {
			m[k] = v
		}
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		p := filepath.Join(t.TempDir(), "c.json")
		if err := os.WriteFile(p, b, 0o600); err != nil {
			return err
		}
		_, err = Load(p, nil)
		return err
	}
	if err := load(nil); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []map[string]any{
		{"control_plane_url": "x.example"}, {"control_plane_url": "https://x.example/"}, {"control_plane_url": "https://u:p@x.example"},
		{"control_plane_url": "file:///etc"}, {"instance": ""}, {"token": ""}, {"unknown": 1},
		{"desktop": map[string]any{"kind": "windows"}}, {"agent": map[string]any{"kind": "skynet"}},
	} {
		if load(bad) == nil {
			t.Errorf("taken: got %v, want load(bad) other than nil", bad)
		}
	}
}

// TestAPIProbe distinguishes the results and follows no redirect, so that a key is sent only to its provider.
func TestAPIProbe(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("got a redirected request with %q, want none", r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/redirect":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case r.Header.Get("Authorization") != "Bearer canary-right" && r.Header.Get("X-Api-Key") != "canary-right":
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	g := &Guest{client: newClient(), redact: &Redactor{}}
	g.keys = newKeyring(g.redact)
	g.keys.set(map[string]string{"A_API_KEY": "canary-right", "B_API_KEY": "canary-wrong", "C_API_KEY": "canary-right", "E_API_KEY": "canary-right"})
	g.probes = []probe{
		{provider: "a", env: "A_API_KEY", url: server.URL, header: "X-Api-Key"},
		{provider: "b", env: "B_API_KEY", url: server.URL},
		{provider: "c", env: "C_API_KEY", url: "http://127.0.0.1:1/"},
		{provider: "d", env: "D_API_KEY", url: server.URL},
		{provider: "e", env: "E_API_KEY", url: server.URL + "/redirect"},
	}
	w := httptest.NewRecorder()
	g.answer(w, g.testAPI(context.Background()))
	var got struct{ Providers []probed }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := []string{"accepted", "unauthorised", "unreachable", "no key", "unexpected"}
	for i, p := range got.Providers {
		if p.Result != want[i] {
			t.Errorf("%s: %s, want %s", p.Provider, p.Result, want[i])
		}
	}
	if strings.Contains(w.Body.String(), "canary") {
		t.Errorf("a key got out: %s, want no \"canary\" in w.Body.String()", w.Body)
	}
	// A machine that was set up and lacks the plug-in for mistral.
	installer, err := install.New(install.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(installer.Lacks(), "mistral") {
		t.Skip("OpenClaw is installed on this computer")
	}
	g.setup = &setup{g: g, installer: installer}
	for provider, want := range map[string]string{"anthropic": "accepted", "mistral": "no plug-in"} {
		if r := g.try(t.Context(), probe{provider: provider, url: server.URL}, "canary-right"); r.Result != want {
			t.Errorf("%s: %s, want %s", provider, r.Result, want)
		}
	}
}
