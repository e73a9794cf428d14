// Package assets serves what new machines download: the guest program, OpenClaw and the wallpaper. The files
// come from a folder, an S3 bucket or the program itself, with ETags, ranges and published sha256 sums.
//
// The one thing to know: only the names listed here are looked up, so a path cannot lead elsewhere. A guest is
// also served under its name and sum, "cloudbot-guest-linux-amd64-<sha256>". Once kept, it stays available under
// that name: a machine's user-data names one version, which may not be the current one.
package assets

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/problem"
)

// Prefix is the path that the handler serves.
const Prefix = "/assets/"

// Info describes an asset. New content has a new Tag.
type Info struct {
	Size     int64
	Modified time.Time // zero: unknown
	Tag      string    // distinguishes contents, as an S3 ETag does; quotes are optional
	SHA256   string    // in hex; "": not known yet
}

// Source is a store of assets. For a missing asset its methods return fs.ErrNotExist.
type Source interface {
	Stat(ctx context.Context, name string) (size int64, modified time.Time, tag, sha256 string, err error)
	// Open reads from offset on. It fails if the content is no longer the one that Stat returned the tag of.
	Open(ctx context.Context, name, tag string, offset int64) (io.ReadCloser, error)
}

// Keeper is a Source that can store assets.
type Keeper interface {
	Source
	Put(ctx context.Context, name, sha256 string, content io.Reader) error
}

// Config configures the handler.
type Config struct {
	Sources []Source     // the first that has an asset serves it
	Kept    Keeper       // stores guests by their sums; nil: only the current guests are available by sum
	Logger  *slog.Logger // nil: silent
}

// Handler serves Prefix. Mount it there, without stripping the prefix.
type Handler struct {
	c    Config
	sums sums
	kept sync.Map // names with sums known to be kept
}

// New returns a handler. After the sources of Config it uses the built-in wallpaper.
func New(c Config) *Handler {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.Sources = append(c.Sources[:len(c.Sources):len(c.Sources)], builtIn{})
	if c.Kept != nil {
		c.Sources = append(c.Sources, c.Kept)
	}
	return &Handler{c: c}
}

// kinds lists all names of assets, with their media types.
var kinds = []struct {
	name *regexp.Regexp
	kind string
}{
	{regexp.MustCompile(`^openclaw\.tgz$`), "application/gzip"},
	{regexp.MustCompile(`^wallpaper\.jpg$`), "image/jpeg"},
	{regexp.MustCompile(`^cloudbot-guest-(linux|darwin)-(amd64|arm64)(-[0-9a-f]{64})?$`), "application/octet-stream"},
}

// versioned splits the name of one version into name and sum.
func versioned(name string) (base, sum string, ok bool) {
	cut := len(name) - 65
	if cut < 0 || name[cut] != '-' {
		return name, "", false
	}
	return name[:cut], name[cut+1:], true
}

// kindOf returns the media type of an asset; "": there is no asset of that name.
func kindOf(name string) string {
	for _, k := range kinds {
		if k.name.MatchString(name) {
			return k.kind
		}
	}
	return ""
}

const sumSuffix = ".sha256"

// ServeHTTP answers GET and HEAD for an asset and, with .sha256 after its name, for its sum as sha256sum prints it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, r, http.StatusMethodNotAllowed, "method_not_allowed", "Assets are read-only; use GET or HEAD.")
		return
	}
	// The path as it was sent: a path that needs decoding is not ours.
	sent, _, _ := strings.Cut(r.RequestURI, "?")
	if sent == "" {
		sent = r.URL.EscapedPath()
	}
	asked, ok := strings.CutPrefix(sent, Prefix)
	name, sum := strings.CutSuffix(asked, sumSuffix)
	kind := kindOf(name)
	if !ok || kind == "" || r.URL.Path != Prefix+asked {
		refuse(w, r, http.StatusNotFound, "not_found", "This asset does not exist.")
		return
	}
	source, info, err := h.find(r.Context(), name)
	base, pinned, one := versioned(name)
	if one && errors.Is(err, fs.ErrNotExist) {
		name = base
		source, info, err = h.find(r.Context(), name)
	}
	switch {
	case err == nil && one && info.SHA256 != pinned, one && errors.Is(err, fs.ErrNotExist):
		h.c.Logger.InfoContext(r.Context(), "guest requested that is no longer available", "asset", base, "sha256", pinned)
		refuse(w, r, http.StatusNotFound, "guest_gone", "This control plane no longer has a guest with this sha256, because it was upgraded. Terminate the instance and create another.")
		return
	case errors.Is(err, fs.ErrNotExist):
		refuse(w, r, http.StatusNotFound, "not_found", "This asset does not exist.")
		return
	case err != nil:
		if r.Context().Err() == nil {
			h.c.Logger.ErrorContext(r.Context(), "finding an asset failed", "asset", name, "err", err)
		}
		refuse(w, r, http.StatusServiceUnavailable, "unavailable", "The asset is unavailable; try again.")
		return
	}
	if sum {
		h.serveSum(w, r, name, info)
		return
	}
	h.serve(w, r, source, name, kind, info)
}

// SHA256 returns an asset's sum in hex. For a missing asset it returns fs.ErrNotExist.
func (h *Handler) SHA256(ctx context.Context, name string) (string, error) {
	if kindOf(name) == "" {
		return "", fmt.Errorf("asset %q: %w", name, fs.ErrNotExist)
	}
	_, info, err := h.find(ctx, name)
	return info.SHA256, err
}

// Where names the source of an asset, for people. For a missing asset it returns fs.ErrNotExist.
func (h *Handler) Where(ctx context.Context, name string) (string, error) {
	source, _, err := h.find(ctx, name)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(source), nil
}

const (
	keepTime  = 2 * time.Minute  // bounds the copying of a version
	keepEvery = 10 * time.Minute // between tries to keep a version: each reads the whole file
)

// Keep returns a guest's sum in hex, and stores this version under it. If storing fails, Keep still returns the
// sum: the version is available under it as long as it is the current one.
func (h *Handler) Keep(ctx context.Context, name string) (string, error) {
	if kindOf(name) == "" {
		return "", fmt.Errorf("asset %q: %w", name, fs.ErrNotExist)
	}
	source, info, err := h.find(ctx, name)
	if err != nil || h.c.Kept == nil {
		return info.SHA256, err
	}
	version := name + "-" + info.SHA256
	// The value is the time of the next try; nil: it is kept.
	if again, known := h.kept.Load(version); known && (again == nil || time.Now().Before(again.(time.Time))) {
		return info.SHA256, nil
	}
	if err := h.keep(ctx, source, name, info, version); err != nil {
		h.c.Logger.WarnContext(ctx, "keeping a guest failed, machines launched now cannot download it after an upgrade", "asset", version, "err", err)
		h.kept.Store(version, time.Now().Add(keepEvery))
		return info.SHA256, nil
	}
	h.kept.Store(version, nil)
	return info.SHA256, nil
}

func (h *Handler) keep(ctx context.Context, source Source, name string, info Info, version string) error {
	ctx, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	if _, _, _, _, err := h.c.Kept.Stat(ctx, version); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	content, err := source.Open(ctx, name, info.Tag, 0)
	if err != nil {
		return err
	}
	defer content.Close()
	return h.c.Kept.Put(ctx, version, info.SHA256, content)
}

// find asks the sources in order, and computes the sum if the source has none.
func (h *Handler) find(ctx context.Context, name string) (Source, Info, error) {
	for _, s := range h.c.Sources {
		var i Info
		var err error
		i.Size, i.Modified, i.Tag, i.SHA256, err = s.Stat(ctx, name)
		if err == nil && i.SHA256 == "" {
			i.SHA256, err = h.sums.of(ctx, s, name, i)
		}
		if err == nil {
			return s, i, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, Info{}, err
		}
	}
	return nil, Info{}, fmt.Errorf("asset %s: %w", name, fs.ErrNotExist)
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code, detail string) {
	problem.Write(w, r, problem.Problem{Status: status, Code: code, Detail: detail})
}
