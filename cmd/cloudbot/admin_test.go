package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

func TestGuardAdmin(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef0123456789abcdef"
	addr := func(text string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct {
		token, addr, host, sent string
		want                    int
	}{
		{"", "127.0.0.1:8001", "127.0.0.1:8001", "", 200},
		{"", "127.0.0.1:8001", "localhost:8001", "", 200},
		{"", "127.0.0.1:8001", "LOCALHOST.:8001", "", 200},
		{"", "127.0.0.1:8001", "[::1]:8001", "", 200},
		{"", "127.0.0.1:80", "localhost", "", 200},
		{"", "127.0.0.1:8001", "localhost", "", 421},
		{"", "127.0.0.1:8001", "localhost:8000", "", 421},
		{"", "127.0.0.1:8001", "rebound.example:8001", "", 421},
		{"", "127.0.0.1:8001", "localhost.example:8001", "", 421},
		{"", "127.0.0.1:8001", "127.0.0.1.example:8001", "", 421},
		{"", "127.0.0.1:8001", "192.0.2.1:8001", "", 421},
		{"", "127.0.0.1:8001", "", "", 421},
		{token, "127.0.0.1:8001", "127.0.0.1:8001", "", 401},
		{token, "127.0.0.1:8001", "127.0.0.1:8001", "Bearer " + token[1:], 401},
		{token, "127.0.0.1:8001", "127.0.0.1:8001", "Bearer " + token + " ", 401},
		{token, "127.0.0.1:8001", "127.0.0.1:8001", token, 401},
		{token, "127.0.0.1:8001", "127.0.0.1:8001", "Bearer ", 401},
		{token, "127.0.0.1:8001", "127.0.0.1:8001", "Bearer " + token, 200},
		{token, "192.0.2.1:8001", "metrics.example", "Bearer " + token, 200},
	} {
		for _, path := range []string{"/metrics", "/debug/pprof/heap", "/verify", "/"} {
			h := guardAdmin(c.token, addr(c.addr), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("figures")) }))
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = c.host
			if c.sent != "" {
				r.Header.Set("Authorization", c.sent)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.want || (w.Code == 200) != (w.Body.String() == "figures") || w.Code != 200 && w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%+v: got %d %s, want %d", c, w.Code, w.Body, c.want)
			}
		}
	}
}

func TestAdminBeyondLoopback(t *testing.T) {
	long := strings.Repeat("t", 32)
	for _, c := range []struct{ addr, token, want string }{
		{"", "", ""},
		{"127.0.0.1:0", "", ""},
		{"localhost:9000", "", ""},
		{"[::1]:9000", "", ""},
		{"0.0.0.0:9000", "", "ADMIN_ADDR is beyond loopback"},
		{":9000", "", "ADMIN_ADDR is beyond loopback"},
		{"[::]:9000", "", "ADMIN_ADDR is beyond loopback"},
		{"192.0.2.1:9000", "", "ADMIN_ADDR is beyond loopback"},
		{":9000", long, ""},
		{":9000", long[1:], "ADMIN_TOKEN has 31 characters"},
		{"", "short", "ADMIN_TOKEN has 5 characters"},
	} {
		given(t, map[string]string{"ADMIN_ADDR": c.addr, "ADMIN_TOKEN": c.token, "LOCAL_DEV_MODE": "true"})
		cfg, err := loadConfig()
		if err == nil {
			err = cfg.exposed(t.Context(), 1000)
		}
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "tttt")) {
			t.Errorf("%+v: got %v, want %q", c, err, c.want)
		}
	}
}

func TestAdminTokenIsMadeWhereDesktopsCouldAsk(t *testing.T) {
	t.Parallel()
	root := os.Geteuid() == 0
	for _, c := range []struct {
		cfg  config
		made bool
	}{
		{config{Environment: "development", LocalDevMode: true}, root},
		{config{Environment: "production", LocalDevMode: true}, true},
		{config{Environment: "production"}, false},
		{config{Environment: "production", LocalDevMode: true, AdminToken: "given"}, false},
	} {
		token, made := c.cfg.adminToken()
		if made != c.made || made && len(token) < adminTokenLength || !made && token != c.cfg.AdminToken {
			t.Errorf("%+v: got token %q, made %v, want made %v", c.cfg, token, made, c.made)
		}
	}
}

// The tools send the token that the server made, or the one in their settings.
func TestToolsSendTheToken(t *testing.T) {
	t.Parallel()
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") }))
	defer server.Close()
	for _, c := range []struct{ made, given, want string }{{"made", "", "Bearer made"}, {"", "given", "Bearer given"}, {"", "", ""}} {
		cfg := config{DataDir: t.TempDir(), AdminToken: c.given}
		if err := (running{PID: os.Getpid(), AdminURL: server.URL, AdminToken: c.made}).write(cfg); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(cfg.runningFile()); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("running.json: got %v, %v, want mode 600", st, err)
		}
		r, ok := readRunning(cfg)
		if !ok {
			t.Fatal("got no server, want the one in running.json")
		}
		if _, err := askAdmin(t.Context(), r, "/verify"); err != nil {
			t.Fatal(err)
		}
		if got != c.want {
			t.Errorf("%+v: got header %q, want %q", c, got, c.want)
		}
	}
}

func TestBeyondLoopbackByName(t *testing.T) {
	t.Parallel()
	if beyondLoopback(context.Background(), "localhost") {
		t.Error("localhost: got beyond loopback, want loopback")
	}
}
