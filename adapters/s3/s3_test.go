package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

func bucket(t *testing.T) (*Bucket, *s3mem.Backend) {
	t.Helper()
	return guarded(t, nil)
}

// guarded is a bucket behind a handler, which returns true for requests that it answered itself.
func guarded(t *testing.T, answers func(http.ResponseWriter, *http.Request) bool) (*Bucket, *s3mem.Backend) {
	t.Helper()
	store := s3mem.New()
	if err := store.CreateBucket("assets"); err != nil {
		t.Fatal(err)
	}
	under := gofakes3.New(store).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answers == nil || !answers(w, r) {
			under.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	b, err := New(t.Context(), Config{
		Bucket: "assets", Prefix: "prod", Region: "eu-central-1", Endpoint: server.URL, Remember: time.Nanosecond,
		credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b, store
}

func put(t *testing.T, store *s3mem.Backend, key, text string, meta map[string]string) {
	t.Helper()
	if _, err := store.PutObject("assets", key, meta, strings.NewReader(text), int64(len(text)), nil); err != nil {
		t.Fatal(err)
	}
}

func TestReadsABucket(t *testing.T) {
	t.Parallel()
	b, store := bucket(t)
	sum := strings.Repeat("a1", 32)
	put(t, store, "prod/openclaw.tgz", "0123456789", map[string]string{"X-Amz-Meta-Sha256": sum})
	size, _, tag, got, err := b.Stat(t.Context(), "openclaw.tgz")
	if err != nil || size != 10 || tag == "" || got != sum {
		t.Fatalf("got %d %q %q %v, want no error, size 10, tag not empty and got %v", size, tag, got, err, sum)
	}
	for offset, want := range map[int64]string{0: "0123456789", 7: "789"} {
		r, err := b.Open(t.Context(), "openclaw.tgz", tag, offset)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(text, []byte(want)) {
			t.Errorf("from %d: got %q %v, want no error and []byte(want)", offset, text, err)
		}
	}
	// Replaced content is not sent under the old tag.
	put(t, store, "prod/openclaw.tgz", "another", map[string]string{})
	if r, err := b.Open(t.Context(), "openclaw.tgz", tag, 0); err == nil {
		r.Close()
		t.Error("another content was sent for the one asked for")
	}
	if size, _, now, _, err := b.Stat(t.Context(), "openclaw.tgz"); err != nil || size != 7 || now == tag {
		t.Errorf("after a change: got %d %q %v, want no error, size 7 and now other than %v", size, now, err, tag)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	b, store := bucket(t)
	put(t, store, "openclaw.tgz", "outside of the prefix", map[string]string{})
	if _, _, _, _, err := b.Stat(t.Context(), "openclaw.tgz"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want error %v", err, fs.ErrNotExist)
	}
	b.c.Bucket = "nowhere"
	if _, _, _, _, err := b.Stat(t.Context(), "wallpaper.jpg"); err == nil {
		t.Error("a bucket that is not there has a wallpaper")
	}
}

// Without s3:ListBucket, a missing object answers 403. A 403 for an object that existed before means wrong credentials:
// a guest of another source must not take its place.
func TestForbiddenIsAbsent(t *testing.T) {
	t.Parallel()
	var denied atomic.Bool
	denied.Store(true)
	b, store := guarded(t, func(w http.ResponseWriter, _ *http.Request) bool {
		if denied.Load() {
			w.WriteHeader(http.StatusForbidden)
		}
		return denied.Load()
	})
	var log bytes.Buffer
	b.c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	put(t, store, "prod/openclaw.tgz", "0123456789", map[string]string{})
	for range 2 {
		if _, _, _, _, err := b.Stat(t.Context(), "openclaw.tgz"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("never seen: got %v, want error %v", err, fs.ErrNotExist)
		}
	}
	if n := strings.Count(log.String(), "s3:ListBucket"); n != 1 {
		t.Errorf("got %d warnings, want 1\n%s", n, log.String())
	}
	denied.Store(false)
	_, _, tag, _, err := b.Stat(t.Context(), "openclaw.tgz")
	if err != nil {
		t.Fatal(err)
	}
	denied.Store(true)
	if _, _, _, _, err := b.Stat(t.Context(), "openclaw.tgz"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("seen before: got %v, want an error and an error other than %v", err, fs.ErrNotExist)
	}
	if r, err := b.Open(t.Context(), "openclaw.tgz", tag, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: got %v %v, want error %v", r, err, fs.ErrNotExist)
	}
	if _, _, _, _, err := b.Stat(t.Context(), "openclaw.tgz"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("seen before, and not read: got %v, want an error and an error other than %v", err, fs.ErrNotExist)
	}
}

// Calls go to the bucket's real region, whatever is configured; the refusal of a HEAD may not name it.
func TestBucketInAnotherRegion(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(http.ResponseWriter, *http.Request){
		"redirected": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amz-Bucket-Region", "us-west-2")
			w.WriteHeader(http.StatusMovedPermanently)
		},
		"refused": func(w http.ResponseWriter, r *http.Request) {
			if strings.Trim(r.URL.Path, "/") == "assets" {
				w.Header().Set("X-Amz-Bucket-Region", "us-west-2")
			}
			w.WriteHeader(http.StatusBadRequest)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var refused atomic.Int32
			b, _ := guarded(t, func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.Header.Get("Authorization"), "/us-west-2/s3/") {
					return false
				}
				refused.Add(1)
				refuse(w, r)
				return true
			})
			if err := b.Put(t.Context(), "wallpaper.jpg", strings.Repeat("a1", 32), strings.NewReader("a picture")); err != nil {
				t.Fatal(err)
			}
			size, _, tag, _, err := b.Stat(t.Context(), "wallpaper.jpg")
			if err != nil || size != int64(len("a picture")) {
				t.Fatalf("got %d %v, want no error and %v", size, err, int64(len("a picture")))
			}
			r, err := b.Open(t.Context(), "wallpaper.jpg", tag, 0)
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			if _, _, _, _, err := b.Stat(t.Context(), "openclaw.tgz"); !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			if n := refused.Load(); n > 2 {
				t.Errorf("the wrong region was asked %d times, want at most 2", n)
			}
		})
	}
}

// A bucket that does not answer does not hold its callers up.
func TestHungBucket(t *testing.T) {
	t.Parallel()
	b, _ := guarded(t, func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	b.c.patience = 10 * time.Millisecond
	began := time.Now()
	if _, _, _, _, err := b.Stat(t.Context(), "openclaw.tgz"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) >= answerTime {
		t.Errorf("got %v after %v, want error %v and time.Since(began) less than %v", err, time.Since(began), context.DeadlineExceeded, answerTime)
	}
}

func TestPut(t *testing.T) {
	t.Parallel()
	b, _ := bucket(t)
	b.c.Remember = time.Hour
	const name = "cloudbot-guest-linux-amd64"
	if _, _, _, _, err := b.Stat(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	sum := strings.Repeat("a1", 32)
	if err := b.Put(t.Context(), name, sum, strings.NewReader("a guest")); err != nil {
		t.Fatal(err)
	}
	size, _, tag, got, err := b.Stat(t.Context(), name) // the earlier answer, that it is missing, is forgotten
	if err != nil || size != 7 || got != sum {
		t.Errorf("got %d %q %v, want no error, size 7 and got %v", size, got, err, sum)
	}
	r, err := b.Open(t.Context(), name, tag, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); err != nil || string(text) != "a guest" {
		t.Errorf("got %q %v, want no error and \"a guest\"", text, err)
	}
	b.c.Bucket = "nowhere"
	if err := b.Put(t.Context(), name, sum, strings.NewReader("a guest")); err == nil {
		t.Error("put into a bucket that is not there")
	}
}

// Any client can request made-up names, so the memory for them is bounded.
func TestRemembersOnlySoMuch(t *testing.T) {
	t.Parallel()
	b, _ := bucket(t)
	for i := range maxKnown + 10 {
		b.known[fmt.Sprint(i)] = object{}
	}
	_, _, _, _, _ = b.Stat(t.Context(), "another")
	if len(b.known) > maxKnown {
		t.Errorf("%d names are remembered, want at most %v", len(b.known), maxKnown)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for place, want := range map[string][2]string{
		"s3://b": {"b", ""}, "s3://b/": {"b", ""}, "s3://b/p/q/": {"b", "p/q"}, "b/p": {}, "s3://": {},
	} {
		bucket, prefix, err := Parse(place)
		if bucket != want[0] || prefix != want[1] || (err == nil) != (want[0] != "") {
			t.Errorf("%q: got %q %q %v, want bucket %v, prefix %v and (err == nil) to be (want[0] != \"\")", place, bucket, prefix, err, want[0], want[1])
		}
	}
}
