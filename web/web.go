// Package web embeds the dashboard's files, which Vite builds from src, and serves them.
// The names of files below assets/ contain a hash of their content, so browsers cache them permanently. A tab
// that was opened before a deploy still requests the names of its build: see Config.Earlier.
package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
)

//go:embed all:dist
var dist embed.FS

// Built returns the files that `make build` embedded, or nil if the program was built without them.
func Built() fs.FS {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil
	}
	if _, err := fs.Stat(files, indexName); err != nil {
		return nil
	}
	return files
}

// EarlierFiles stores the hashed files of earlier builds, and of the builds that other replicas run.
type EarlierFiles interface {
	// Get returns fs.ErrNotExist for a name that no stored build has.
	Get(ctx context.Context, name string) ([]byte, error)
}

// Config configures a Handler.
type Config struct {
	Files   fs.FS        // in Vite's layout: index.html, assets/
	Earlier EarlierFiles // nil: files of earlier builds are not served
	Logger  *slog.Logger // required with Earlier
}

// Handler serves the dashboard at "/". Its caller strips the prefix that it is mounted at.
type Handler struct {
	c     Config
	files map[string]*file
}

const (
	indexName = "index.html"
	hashed    = "assets/"
	nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
)

// New returns a Handler that holds all files in memory.
func New(c Config) (*Handler, error) {
	h := &Handler{c: c, files: map[string]*file{}}
	return h, Walk(c.Files, func(name string, data []byte) error {
		h.files[name] = newFile(name, data)
		return nil
	})
}

// Walk calls f for each file that is served.
func Walk(files fs.FS, f func(name string, data []byte) error) error {
	return fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasPrefix(path.Base(name), ".") || strings.HasPrefix(name, ".") {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		return f(name, data)
	})
}

// mayBeEarlier reports whether a build may have had a file of that name. Requests are public, so this keeps
// invalid names from reaching EarlierFiles.
func mayBeEarlier(name string) bool {
	name = strings.TrimPrefix(name, hashed)
	return name != "" && len(name) <= 100 && strings.Trim(name, nameChars) == ""
}

// Hashed reports whether a file's name contains a hash of its content.
func Hashed(name string) bool { return strings.HasPrefix(name, hashed) }

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "The dashboard accepts only GET and HEAD.", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if f := h.files[name]; f != nil {
		f.serve(w, r)
		return
	}
	if !Hashed(name) {
		// A page of the dashboard; the script chooses which.
		if path.Ext(name) == "" {
			h.files[indexName].serve(w, r)
		} else {
			http.NotFound(w, r)
		}
		return
	}
	if h.c.Earlier != nil && mayBeEarlier(name) {
		data, err := h.c.Earlier.Get(r.Context(), name)
		if err == nil {
			old := newFile(name, data)
			old.packed = func() []byte { return nil } // compressing it for each request would cost more than it saves
			old.serve(w, r)
			return
		}
		if !errors.Is(err, fs.ErrNotExist) && r.Context().Err() == nil {
			h.c.Logger.Warn("reading an earlier build's file failed", "err", err)
		}
	}
	http.NotFound(w, r)
}

type file struct {
	name   string
	data   []byte
	tag    string
	packed func() []byte // gzip of data, nil if it is not much smaller
}

func newFile(name string, data []byte) *file {
	sum := sha256.Sum256(data)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	return &file{name: name, data: data, tag: tag, packed: sync.OnceValue(func() []byte { return pack(data) })}
}

func pack(data []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write(data)
	_ = z.Close()
	if b.Len() > len(data)*9/10 {
		return nil
	}
	return b.Bytes()
}

// types holds the content types of the dashboard's files, because the tables of operating systems differ.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml", ".png": "image/png", ".woff2": "font/woff2", ".json": "application/json",
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	kind := types[path.Ext(f.name)]
	if kind == "" {
		kind = mime.TypeByExtension(path.Ext(f.name))
	}
	h.Set("Content-Type", kind)
	h.Add("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache") // stored, but validated before each use
	if Hashed(f.name) {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	data, tag := f.data, f.tag
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		if packed := f.packed(); packed != nil {
			data, tag = packed, strings.TrimSuffix(tag, `"`)+`-gzip"`
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(data)
	}
}
