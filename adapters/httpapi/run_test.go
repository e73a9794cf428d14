package httpapi

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"
)

func TestRunDrains(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.url = "http://" + ln.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	entered, hold := make(chan struct{}), make(chan struct{})
	f.server.echo.GET("/slow", func(c echo.Context) error {
		close(entered)
		<-hold
		return c.String(http.StatusOK, "done")
	})
	ran := make(chan error, 1)
	go func() { ran <- f.server.Run(ctx, ln) }()
	events := f.stream(t, ada.access, "/api/events", "")
	slow := make(chan string, 1)
	go func() {
		res, err := http.Get(f.url + "/slow")
		if err != nil {
			slow <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		slow <- string(body)
	}()
	<-entered
	stop()
	if last := events.end(); !strings.HasPrefix(last, "retry: ") {
		t.Errorf("last comment: got %q, want a time to reconnect", last)
	}
	select {
	case err := <-ran:
		t.Fatalf("got Run's return %v with a request open, want it to wait", err)
	default:
	}
	close(hold)
	if got := <-slow; got != "done" {
		t.Errorf("slow request: got %q, want done", got)
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", ln.Addr().String(), time.Second); err == nil {
		t.Errorf("got a listener after Run, want none")
	}
}

func TestRunCutsWhatOutlastsTheDrain(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Drain = 20 * time.Millisecond })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	entered, hold := make(chan struct{}), make(chan struct{})
	defer close(hold)
	f.server.echo.GET("/slow", func(echo.Context) error { close(entered); <-hold; return errNoObject })
	ran := make(chan error, 1)
	go func() { ran <- f.server.Run(ctx, ln) }()
	go func() {
		if res, err := http.Get("http://" + ln.Addr().String() + "/slow"); err == nil {
			res.Body.Close()
		}
	}()
	<-entered
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- f.server.Run(ctx, ln) }()
	f.url = "http://" + ln.Addr().String()
	if res := f.raw(t, "GET /health", "X-Big: "+strings.Repeat("a", 2*maxHeader)); res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d, want %d", res.StatusCode, http.StatusRequestHeaderFieldsTooLarge)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Errorf("an empty Config: got no error, want one")
	}
	good := newFront(t, nil).server.cfg
	for what, spoil := range map[string]func(*Config){
		"origin path": func(c *Config) { c.Origins = []string{"https://a.example/"} },
		"origin star": func(c *Config) { c.Origins = []string{"*"} },
		"origin case": func(c *Config) { c.Origins = []string{"https://A.example"} },
		"mount":       func(c *Config) { c.Mounts = map[string]http.Handler{"guest": nil} },
		"no tokens":   func(c *Config) { c.Tokens = nil },
	} {
		c := good
		c.Metrics = nil
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: got no error, want one", what)
		}
	}
}
