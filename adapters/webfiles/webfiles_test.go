package webfiles

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/web"
)

func open(t *testing.T) Store {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return Store{Pool: pool}
}

func build(name, text string) fstest.MapFS {
	return fstest.MapFS{"index.html": {Data: []byte("<!doctype html>" + name)}, name: {Data: []byte(text)}}
}

// TestAnOldTabFindsItsParts deploys twice: the files of the first build are still served.
func TestAnOldTabFindsItsParts(t *testing.T) {
	t.Parallel()
	s := open(t)
	older, newer := build("assets/page-a1.js", "old"), build("assets/page-b2.js", "new")
	for _, files := range []fstest.MapFS{older, newer, newer} {
		if err := s.Put(t.Context(), files); err != nil {
			t.Fatal(err)
		}
	}
	h, err := web.New(web.Config{Files: newer, Earlier: s})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/assets/page-a1.js": "old", "/assets/page-b2.js": "new"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusOK || w.Body.String() != want {
			t.Errorf("%s: got %d %q, want 200 %q", path, w.Code, w.Body, want)
		}
	}
	if _, err := s.Get(t.Context(), "index.html"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a page without a hash in its name: got %v, want %v", err, fs.ErrNotExist)
	}
}

func TestUnusedFilesAreDeleted(t *testing.T) {
	t.Parallel()
	s := open(t)
	if err := s.Put(t.Context(), build("assets/a.js", "old")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pool.Exec(t.Context(), `UPDATE ops.web_files SET used_at = now() - interval '31 days'`); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), build("assets/b.js", "new")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "assets/a.js"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an old file: got %v, want %v", err, fs.ErrNotExist)
	}
}
