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

func TestServedFiles(t *testing.T) {
	t.Parallel()
	h := handler(t, nil)
	for _, c := range []struct {
		path   string
		status int
		kind   string
		cache  string
	}{
		{"/", 200, "text/html; charset=utf-8", "no-cache"},
		{"/desktops/01J/about", 200, "text/html; charset=utf-8", "no-cache"}, // a page: the script chooses which
		{"/icon.svg", 200, "image/svg+xml", "no-cache"},
		{"/assets/app-1a2b.js", 200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"/assets/app-0000.js", 404, "", ""},
		{"/assets/page", 404, "", ""},
		{"/nothing.png", 404, "", ""},
		{"/.vite/manifest.json", 404, "", ""},
		{"/.gitkeep", 404, "", ""},
	} {
		a := get(h, "GET", c.path)
		isWrong := a.Header.Get("Content-Type") != c.kind || a.Header.Get("Cache-Control") != c.cache
		if a.StatusCode != c.status || c.status == 200 && isWrong {
			t.Errorf("GET %s: got %d %v, want %d %s %s", c.path, a.StatusCode, a.Header, c.status, c.kind, c.cache)
		}
	}
	if a := get(h, "POST", "/"); a.StatusCode != 405 || a.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: got %d, Allow %q, want 405, Allow %q", a.StatusCode, a.Header.Get("Allow"), "GET, HEAD")
	}
}

func TestCompressionAndValidation(t *testing.T) {
	t.Parallel()
	h := handler(t, nil)
	plain, packed := get(h, "GET", "/assets/app-1a2b.js"), get(h, "GET", "/assets/app-1a2b.js", "Accept-Encoding", "br, gzip")
	small, _ := io.ReadAll(packed.Body)
	if packed.Header.Get("Content-Encoding") != "gzip" || len(small) > 200 || packed.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("gzip: got %d bytes, %v, want at most 200 bytes, gzip, varying by Accept-Encoding", len(small), packed.Header)
	}
	if plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("ETag") == packed.Header.Get("ETag") {
		t.Errorf("plain: got %v, want no Content-Encoding and another ETag than gzip's %s", plain.Header, packed.Header.Get("ETag"))
	}
	if a := get(h, "GET", "/assets/app-1a2b.js", "If-None-Match", plain.Header.Get("ETag")); a.StatusCode != 304 {
		t.Errorf("If-None-Match: got %d, want 304", a.StatusCode)
	}
	if a := get(h, "HEAD", "/"); a.StatusCode != 200 || a.ContentLength <= 0 {
		t.Errorf("HEAD: got %d, %d bytes, want 200, more than 0 bytes", a.StatusCode, a.ContentLength)
	}
}

func TestAFailingStoreIsNotFound(t *testing.T) {
	t.Parallel()
	if a := get(handler(t, broken{}), "GET", "/assets/app-0000.js"); a.StatusCode != 404 {
		t.Errorf("got %d, want 404", a.StatusCode)
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
			t.Errorf("got %s with %d bytes, want no hidden and no empty file", name, len(data))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if page, err := fs.ReadFile(files, "index.html"); err != nil || strings.Contains(string(page), "//cdn") {
		t.Errorf("index.html: got error %v, page %q, want no error and no script from a CDN", err, page)
	}
}

type asked map[string]int

func (a asked) Get(_ context.Context, name string) ([]byte, error) {
	a[name]++
	return []byte(strings.Repeat("old();", 500)), nil
}

// Requests are public: the store of earlier files is asked only for names that a build may have had, and its files
// are not compressed again for each request.
func TestTheStoreIsAskedForValidNamesOnly(t *testing.T) {
	t.Parallel()
	earlier := asked{}
	h := handler(t, earlier)
	for _, path := range []string{"/assets/", "/assets/%00.js", "/assets/%ff.js", "/assets/a%20b.js", "/assets/a/b.js", "/assets/" + strings.Repeat("a", 101)} {
		if a := get(h, "GET", path); a.StatusCode != 404 {
			t.Errorf("GET %s: got %d, want 404", path, a.StatusCode)
		}
	}
	if len(earlier) != 0 {
		t.Errorf("names asked of the store: got %v, want none", earlier)
	}
	if a := get(h, "GET", "/assets/app_0-Z.js", "Accept-Encoding", "gzip"); a.StatusCode != 200 || a.Header.Get("Content-Encoding") != "" || earlier["assets/app_0-Z.js"] != 1 {
		t.Errorf("got %d %v %v, want 200, not compressed, one request to the store", a.StatusCode, a.Header, earlier)
	}
}
