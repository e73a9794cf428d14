package web

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

type broken struct{}

func (broken) Get(context.Context, string) ([]byte, error) { return nil, errors.New("no database") }

func handler(t *testing.T, earlier EarlierFiles) http.Handler {
	t.Helper()
	h, err := New(Config{Earlier: earlier, Logger: slog.New(slog.DiscardHandler), Files: fstest.MapFS{
		"index.html":          {Data: []byte("<!doctype html>")},
		"icon.svg":            {Data: []byte("<svg/>")},
		"assets/app-1a2b.js":  {Data: []byte(strings.Repeat("f();", 500))},
		".vite/manifest.json": {Data: []byte("{}")},
		".gitkeep":            {},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func get(h http.Handler, method, path string, header ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestWhatIsServed(t *testing.T) {
	t.Parallel()
	h := handler(t, nil)
	for _, c := range []struct {
		path   string
		status int
		kind   string
		cache  string
	}{
		{"/", 200, "text/html; charset=utf-8", "no-cache"},
		{"/desktops/01J/about", 200, "text/html; charset=utf-8", "no-cache"}, // a page: the script knows which
		{"/icon.svg", 200, "image/svg+xml", "no-cache"},
		{"/assets/app-1a2b.js", 200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"/assets/app-0000.js", 404, "", ""},
		{"/assets/page", 404, "", ""},
		{"/nothing.png", 404, "", ""},
		{"/.vite/manifest.json", 404, "", ""},
		{"/.gitkeep", 404, "", ""},
	} {
		a := get(h, "GET", c.path)
		if a.StatusCode != c.status || c.status == 200 && (a.Header.Get("Content-Type") != c.kind || a.Header.Get("Cache-Control") != c.cache) {
			t.Errorf("%s: %d %v", c.path, a.StatusCode, a.Header)
		}
	}
	if a := get(h, "POST", "/"); a.StatusCode != 405 || a.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", a.StatusCode)
	}
}

func TestPackedAndAskedAgain(t *testing.T) {
	t.Parallel()
	h := handler(t, nil)
	plain, packed := get(h, "GET", "/assets/app-1a2b.js"), get(h, "GET", "/assets/app-1a2b.js", "Accept-Encoding", "br, gzip")
	small, _ := io.ReadAll(packed.Body)
	if packed.Header.Get("Content-Encoding") != "gzip" || len(small) > 200 || packed.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("packed: %d bytes, %v", len(small), packed.Header)
	}
	if plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("ETag") == packed.Header.Get("ETag") {
		t.Errorf("plain: %v", plain.Header)
	}
	if a := get(h, "GET", "/assets/app-1a2b.js", "If-None-Match", plain.Header.Get("ETag")); a.StatusCode != 304 {
		t.Errorf("asked again: %d", a.StatusCode)
	}
	if a := get(h, "HEAD", "/"); a.StatusCode != 200 || a.ContentLength <= 0 {
		t.Errorf("HEAD: %d, %d bytes", a.StatusCode, a.ContentLength)
	}
}

func TestABrokenShelfIsNotThePagesEnd(t *testing.T) {
	t.Parallel()
	if a := get(handler(t, broken{}), "GET", "/assets/app-0000.js"); a.StatusCode != 404 {
		t.Errorf("%d", a.StatusCode)
	}
}

func TestBuilt(t *testing.T) {
	t.Parallel()
	files := Built()
	if files == nil {
		t.Skip("built without the dashboard: make build")
	}
	if err := Walk(files, func(name string, data []byte) error {
		if strings.HasPrefix(name, ".") || len(data) == 0 {
			t.Errorf("%s is served, %d bytes", name, len(data))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if page, err := fs.ReadFile(files, "index.html"); err != nil || strings.Contains(string(page), "//cdn") {
		t.Errorf("index.html: %v", err)
	}
}

type asked map[string]int

func (a asked) Get(_ context.Context, name string) ([]byte, error) {
	a[name]++
	return []byte(strings.Repeat("old();", 500)), nil
}

// Anybody may ask for anything: the store of earlier files is asked for names that a build may have had, and what it
// has is not packed anew for each who asks.
func TestTheShelfIsAskedForNamesOnly(t *testing.T) {
	t.Parallel()
	earlier := asked{}
	h := handler(t, earlier)
	for _, path := range []string{"/assets/", "/assets/%00.js", "/assets/%ff.js", "/assets/a%20b.js", "/assets/a/b.js", "/assets/" + strings.Repeat("a", 101)} {
		if a := get(h, "GET", path); a.StatusCode != 404 {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
	if len(earlier) != 0 {
		t.Errorf("the store of earlier files was asked for %v", earlier)
	}
	if a := get(h, "GET", "/assets/app_0-Z.js", "Accept-Encoding", "gzip"); a.StatusCode != 200 || a.Header.Get("Content-Encoding") != "" || earlier["assets/app_0-Z.js"] != 1 {
		t.Errorf("%d %v %v", a.StatusCode, a.Header, earlier)
	}
}
