package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// The health check asks the port that the server listens on, also if it listens on all addresses.
func TestHealth(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" || r.Method != http.MethodGet {
			t.Errorf("got %s %s, want GET /health", r.Method, r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	defer up.Close()
	u, err := url.Parse(up.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "::"} { // the last as in a container without IPv6
		if err := askHealth(t.Context(), config{Host: host, Port: u.Port()}); err != nil {
			t.Errorf("HOST=%s: got %v, want no error", host, err)
		}
	}
	status = http.StatusServiceUnavailable
	if err := askHealth(t.Context(), config{Host: "0.0.0.0", Port: u.Port()}); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a server that answers 503: got %v, want an error with 503", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	if err := askHealth(t.Context(), config{Host: "0.0.0.0", Port: port}); err == nil || !strings.Contains(err.Error(), "does not answer at http://127.0.0.1:"+port) {
		t.Errorf("no server: got %v, want an error that names where it asked", err)
	}
	if err := askHealth(t.Context(), config{Host: "::", Port: port}); err == nil || !strings.Contains(err.Error(), "[::1]:"+port) {
		t.Errorf("HOST=::, no server: got %v, want an error that names [::1]", err)
	}
	if err := askHealth(t.Context(), config{Port: "0"}); err == nil || !strings.Contains(err.Error(), "PORT is 0") {
		t.Errorf("PORT=0: got %v, want a refusal", err)
	}
}
