package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

func bucket(t *testing.T) (*Bucket, *s3mem.Backend) {
	t.Helper()
	store := s3mem.New()
	if err := store.CreateBucket("assets"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(store).Server())
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
		t.Fatalf("%d %q %q %v", size, tag, got, err)
	}
	for offset, want := range map[int64]string{0: "0123456789", 7: "789"} {
		r, err := b.Open(t.Context(), "openclaw.tgz", tag, offset)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(text, []byte(want)) {
			t.Errorf("from %d: %q %v", offset, text, err)
		}
	}
	// What is replaced is not sent under the old one's tag.
	put(t, store, "prod/openclaw.tgz", "another", map[string]string{})
	if r, err := b.Open(t.Context(), "openclaw.tgz", tag, 0); err == nil {
		r.Close()
		t.Error("another content was sent for the one asked for")
	}
	if size, _, now, _, err := b.Stat(t.Context(), "openclaw.tgz"); err != nil || size != 7 || now == tag {
		t.Errorf("after a change: %d %q %v", size, now, err)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	b, store := bucket(t)
	put(t, store, "openclaw.tgz", "outside of the prefix", map[string]string{})
	if _, _, _, _, err := b.Stat(t.Context(), "openclaw.tgz"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	b.c.Bucket = "nowhere"
	if _, _, _, _, err := b.Stat(t.Context(), "wallpaper.jpg"); err == nil {
		t.Error("a bucket that is not there has a wallpaper")
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
	size, _, tag, got, err := b.Stat(t.Context(), name) // that there was none is forgotten
	if err != nil || size != 7 || got != sum {
		t.Errorf("%d %q %v", size, got, err)
	}
	r, err := b.Open(t.Context(), name, tag, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); err != nil || string(text) != "a guest" {
		t.Errorf("%q %v", text, err)
	}
	b.c.Bucket = "nowhere"
	if err := b.Put(t.Context(), name, sum, strings.NewReader("a guest")); err == nil {
		t.Error("put into a bucket that is not there")
	}
}

// Names that nobody has are asked for by anybody: what is remembered of them is bounded.
func TestRemembersOnlySoMuch(t *testing.T) {
	t.Parallel()
	b, _ := bucket(t)
	for i := range maxKnown + 10 {
		b.known[fmt.Sprint(i)] = object{}
	}
	_, _, _, _, _ = b.Stat(t.Context(), "another")
	if len(b.known) > maxKnown {
		t.Errorf("%d names are remembered", len(b.known))
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for place, want := range map[string][2]string{
		"s3://b": {"b", ""}, "s3://b/": {"b", ""}, "s3://b/p/q/": {"b", "p/q"}, "b/p": {}, "s3://": {},
	} {
		bucket, prefix, err := Parse(place)
		if bucket != want[0] || prefix != want[1] || (err == nil) != (want[0] != "") {
			t.Errorf("%q: %q %q %v", place, bucket, prefix, err)
		}
	}
}
