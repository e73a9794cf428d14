package assets

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"image/jpeg"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var program = bytes.Repeat([]byte("0123456789abcdef"), 8<<10)

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// front serves a folder that contains a guest, with a secret beside the folder.
func front(t *testing.T) (*httptest.Server, string) {
	t.Helper()
	above := t.TempDir()
	dir := filepath.Join(above, "assets")
	for path, text := range map[string][]byte{
		filepath.Join(dir, "cloudbot-guest-linux-amd64"): program,
		filepath.Join(dir, "openclaw.tgz"):               []byte("a package"),
		filepath.Join(dir, "notes.txt"):                  []byte("SECRET"),
		filepath.Join(above, "secret"):                   []byte("SECRET"),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(New(Config{Sources: []Source{Folder{Dir: dir}}}))
	t.Cleanup(server.Close)
	return server, dir
}

func get(t *testing.T, url string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

func TestServesWithSumsTagsAndRanges(t *testing.T) {
	t.Parallel()
	server, dir := front(t)
	url := server.URL + "/assets/cloudbot-guest-linux-amd64"
	res, body := get(t, url)
	sum := hexSum(program)
	if res.StatusCode != 200 || !bytes.Equal(body, program) || res.Header.Get("X-Checksum-Sha256") != sum ||
		res.Header.Get("Etag") != `"`+sum+`"` || res.Header.Get("Content-Type") != "application/octet-stream" || res.Header.Get("Accept-Ranges") != "bytes" {
		t.Fatalf("got %d, %d bytes, %v, want res.StatusCode 200, body %v, res.Header.Get(\"X-Checksum-Sha256\") %v, res.Header.Get(\"Etag\") %v, res.Header.Get(\"Content-Type\") \"application/octet-stream\" and res.Header.Get(\"Accept-Ranges\") \"bytes\"", res.StatusCode, len(body), res.Header, program, sum, `"`+sum+`"`)
	}
	if _, text := get(t, url+".sha256"); string(text) != sum+"  cloudbot-guest-linux-amd64\n" {
		t.Errorf("sum: got %q, want %v", text, sum+"  cloudbot-guest-linux-amd64\n")
	}
	if res, body := get(t, url, "Range", "bytes=70000-70009"); res.StatusCode != 206 || !bytes.Equal(body, program[70000:70010]) {
		t.Errorf("a range: got %d %q, want res.StatusCode 206 and body %v", res.StatusCode, body, program[70000:70010])
	}
	if res, body := get(t, url, "Range", "bytes=-5"); res.StatusCode != 206 || !bytes.Equal(body, program[len(program)-5:]) {
		t.Errorf("the end: got %d %q, want res.StatusCode 206 and body %v", res.StatusCode, body, program[len(program)-5:])
	}
	if res, _ := get(t, url, "Range", "bytes=9999999-"); res.StatusCode != 416 {
		t.Errorf("beyond the end: got %d, want 416", res.StatusCode)
	}
	if res, body := get(t, url, "If-None-Match", `"`+sum+`"`); res.StatusCode != 304 || len(body) > 0 {
		t.Errorf("known already: got %d, want res.StatusCode 304 and no body", res.StatusCode)
	}
	if res, body := get(t, url, "Range", "bytes=0-3", "If-Range", `"other"`); res.StatusCode != 200 || len(body) != len(program) {
		t.Errorf("a range of another content: got %d, want res.StatusCode 200 and len(body) %v", res.StatusCode, len(program))
	}
	// Other content immediately has another tag and sum.
	if err := os.WriteFile(filepath.Join(dir, "cloudbot-guest-linux-amd64"), []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	if res, body := get(t, url, "If-None-Match", `"`+sum+`"`); res.StatusCode != 200 || string(body) != "new" || res.Header.Get("X-Checksum-Sha256") != hexSum([]byte("new")) {
		t.Errorf("after a change: got %d %q %v, want res.StatusCode 200, string(body) \"new\" and res.Header.Get(\"X-Checksum-Sha256\") hexSum([]byte(\"new\"))", res.StatusCode, body, res.Header)
	}
}

func TestTypesAndTheBuiltInWallpaper(t *testing.T) {
	t.Parallel()
	server, _ := front(t)
	for name, kind := range map[string]string{"openclaw.tgz": "application/gzip", "wallpaper.jpg": "image/jpeg"} {
		if res, _ := get(t, server.URL+"/assets/"+name); res.StatusCode != 200 || res.Header.Get("Content-Type") != kind || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got %d %v, want res.StatusCode 200, res.Header.Get(\"Content-Type\") %v and res.Header.Get(\"X-Content-Type-Options\") \"nosniff\"", name, res.StatusCode, res.Header, kind)
		}
	}
	_, body := get(t, server.URL+"/assets/wallpaper.jpg")
	if m, err := jpeg.DecodeConfig(bytes.NewReader(body)); err != nil || m.Width < 1920 || len(body) > 200<<10 {
		t.Errorf("the wallpaper: got %v, %d bytes, %v, want no error, m.Width at least 1920 and len(body) at most %v", m, len(body), err, 200<<10)
	}
	if res, _ := get(t, server.URL+"/assets/cloudbot-guest-linux-arm64"); res.StatusCode != 404 {
		t.Errorf("an asset that is not there: got %d, want 404", res.StatusCode)
	}
	res, err := http.Post(server.URL+"/assets/openclaw.tgz", "", nil)
	if err != nil || res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %v %v, want no error and %v", res, err, http.StatusMethodNotAllowed)
	}
	res.Body.Close()
}

// TestNothingElse requests files that are no assets, in ways known from attacks elsewhere.
func TestNothingElse(t *testing.T) {
	t.Parallel()
	server, dir := front(t)
	if err := os.Symlink(filepath.Join(dir, "..", "secret"), filepath.Join(dir, "cloudbot-guest-linux-arm64")); err != nil {
		t.Fatal(err)
	}
	paths := []string{"", "notes.txt", "../secret", "..%2fsecret", "%2e%2e/secret", "%2e%2e%2fsecret", `..\secret`, "..%5csecret", "....//secret", "./openclaw.tgz",
		"/openclaw.tgz", "%2fopenclaw.tgz", "openclaw.tgz/", "openclaw.tgz/..", "openclaw.tgz%00", "openclaw.tgz%0a", "openclaw%2etgz", "OPENCLAW.TGZ", "openclaw.tgz.sha256.sha256",
		"openclaw.tgz;x", "openclaw.tgz%3f", "x/../openclaw.tgz", "cloudbot-guest-linux-arm64", "cloudbot-guest-linux-amd64/../notes.txt", "cloudbot-guest-windows-amd64", "cloudbot-guest-linux-amd64-" + strings.Repeat("0", 64), "cloudbot-guest-linux-amd64-" + hexSum(program)[:63], "cloudbot-guest-linux-amd64-../notes.txt",
		"cloudbot-guest-linux-amd64%20", "/etc/passwd", "//etc/passwd", "%252e%252e%252fsecret", "..;/secret", "%c0%ae%c0%ae/secret", ".sha256", "notes.txt.sha256"}
	for _, path := range paths {
		res, body := get(t, server.URL+"/assets/"+path)
		if res.StatusCode == 200 || bytes.Contains(body, []byte("SECRET")) {
			t.Errorf("%q: got %d %.60q, want res.StatusCode other than 200 and no []byte(\"SECRET\") in body", path, res.StatusCode, body)
		}
	}
	for _, path := range []string{"/openclaw.tgz", "/assets", "/Assets/openclaw.tgz", "//assets/openclaw.tgz", "/x/assets/openclaw.tgz"} {
		if res, _ := get(t, server.URL+path); res.StatusCode != 404 {
			t.Errorf("%q: got %d, want 404", path, res.StatusCode)
		}
	}
}

// A kept guest is served by its sum after upgrades and restarts; for any other sum the answer is guest_gone.
func TestGuestsBySum(t *testing.T) {
	t.Parallel()
	const name = "cloudbot-guest-linux-amd64"
	dir, kept := t.TempDir(), filepath.Join(t.TempDir(), "guests")
	put := func(text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return hexSum([]byte(text))
	}
	serve := func() (*Handler, string) {
		h := New(Config{Sources: []Source{Folder{Dir: dir}}, Kept: Folder{Dir: kept}})
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return h, server.URL + "/assets/" + name + "-"
	}
	serves := func(url, sum, want string) {
		t.Helper()
		if res, body := get(t, url+sum); res.StatusCode != 200 || string(body) != want || res.Header.Get("X-Checksum-Sha256") != sum {
			t.Errorf("%s: got %d %q, want res.StatusCode 200, string(body) %v and res.Header.Get(\"X-Checksum-Sha256\") %v", sum, res.StatusCode, body, want, sum)
		}
	}
	h, url := serve()
	first := put("the first")
	serves(url, first, "the first") // the current one need not be kept
	for range 2 {
		if sum, err := h.Keep(t.Context(), name); err != nil || sum != first {
			t.Fatalf("got %q %v, want no error and %v", sum, err, first)
		}
	}
	second := put("the second")
	serves(url, first, "the first")
	serves(url, second, "the second")
	if sum, err := h.Keep(t.Context(), name); err != nil || sum != second {
		t.Fatalf("got %q %v, want no error and %v", sum, err, second)
	}
	third := put("the third")
	_, url = serve()
	serves(url, first, "the first")
	serves(url, second, "the second")
	put("the fourth")
	if res, body := get(t, url+third); res.StatusCode != 404 || !bytes.Contains(body, []byte(`"code":"guest_gone"`)) {
		t.Errorf("never kept: got %d %s, want res.StatusCode 404 and []byte(`\"code\":\"guest_gone\"`) in body", res.StatusCode, body)
	}
	if err := os.WriteFile(filepath.Join(kept, name+"-"+first), []byte("tampered with"), 0o644); err != nil {
		t.Fatal(err)
	}
	if res, body := get(t, url+first); res.StatusCode != 404 || bytes.Contains(body, []byte("tampered")) {
		t.Errorf("what is kept was changed: got %d %s, want res.StatusCode 404 and no []byte(\"tampered\") in body", res.StatusCode, body)
	}
	if list, err := os.ReadDir(kept); err != nil || len(list) != 2 {
		t.Errorf("kept: got %v %v, want no error and 2", list, err)
	}
	// If guests cannot be kept, machines are launched anyway.
	h = New(Config{Sources: []Source{Folder{Dir: dir}}, Kept: Folder{Dir: filepath.Join(dir, name)}})
	if sum, err := h.Keep(t.Context(), name); err != nil || sum != hexSum([]byte("the fourth")) {
		t.Errorf("got %q %v, want no error and hexSum([]byte(\"the fourth\"))", sum, err)
	}
	// Keeping is not tried at each look: a try reads the whole file.
	keeper := &refusing{Folder: Folder{Dir: t.TempDir()}}
	h = New(Config{Sources: []Source{Folder{Dir: dir}}, Kept: keeper})
	for range 3 {
		if sum, err := h.Keep(t.Context(), name); err != nil || sum != hexSum([]byte("the fourth")) || keeper.puts != 1 {
			t.Errorf("%q %v, tried %d times, want no error, sum hexSum([]byte(\"the fourth\")) and keeper.puts 1", sum, err, keeper.puts)
		}
	}
}

// refusing is a Keeper that cannot be written to.
type refusing struct {
	Folder
	puts int
}

func (r *refusing) Put(context.Context, string, string, io.Reader) error {
	r.puts++
	return fs.ErrPermission
}

// slow counts how often it is read.
type slow struct {
	opened  atomic.Int64
	release chan struct{}
}

func (s *slow) Stat(_ context.Context, _ string) (int64, time.Time, string, string, error) {
	return int64(len(program)), time.Time{}, "t1", "", nil
}

func (s *slow) Open(ctx context.Context, _, _ string, offset int64) (io.ReadCloser, error) {
	s.opened.Add(1)
	<-s.release
	return io.NopCloser(bytes.NewReader(program[offset:])), nil
}

func TestASumIsReadOnce(t *testing.T) {
	t.Parallel()
	s := &slow{release: make(chan struct{})}
	h := New(Config{Sources: []Source{s}})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if sum, err := h.SHA256(t.Context(), "openclaw.tgz"); err != nil || sum != hexSum(program) {
				t.Errorf("got %q %v, want no error and %v", sum, err, hexSum(program))
			}
		})
	}
	close(s.release)
	all.Wait()
	if n := s.opened.Load(); n != 1 {
		t.Errorf("read %d times, want 1", n)
	}
	if _, err := h.SHA256(t.Context(), "../secret"); err == nil || !strings.Contains(err.Error(), "not exist") {
		t.Errorf("a sum of what is no asset: got %v, want an error and \"not exist\" in err.Error()", err)
	}
}

func TestWhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := New(Config{Sources: []Source{Folder{Dir: t.TempDir()}, Folder{Dir: dir}}})
	if place, err := h.Where(t.Context(), "openclaw.tgz"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %q %v, want error %v", place, err, fs.ErrNotExist)
	}
	if err := os.WriteFile(filepath.Join(dir, "openclaw.tgz"), []byte("a package"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"openclaw.tgz": dir, "wallpaper.jpg": "the program itself"} {
		if place, err := h.Where(t.Context(), name); err != nil || place != want {
			t.Errorf("%s: got %q %v, want no error and %v", name, place, err, want)
		}
	}
}
