package assets

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

func TestCatalogueNamesTheGuestsThatThereAre(t *testing.T) {
	t.Parallel()
	dir, kept := t.TempDir(), t.TempDir()
	c := NewCatalogue(New(Config{Sources: []Source{Folder{Dir: dir}}, Kept: Folder{Dir: kept}}), slog.New(slog.DiscardHandler))
	if _, err := c.Known(); err == nil || errors.Is(err, bootstrap.ErrNoGuest) {
		t.Errorf("before a look: got %v, want an error after which waiting helps", err)
	}
	_ = c.refresh(t.Context())
	if _, err := c.Known(); !errors.Is(err, bootstrap.ErrNoGuest) || !strings.Contains(err.Error(), "make guests") {
		t.Errorf("without a guest: got %v, want %v", err, bootstrap.ErrNoGuest)
	}
	if err := os.WriteFile(filepath.Join(dir, "cloudbot-guest-linux-arm64"), []byte("a guest"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := c.Known()
	list, _ := os.ReadDir(kept)
	if err != nil || len(list) != 1 || !strings.HasPrefix(list[0].Name(), "cloudbot-guest-linux-arm64-") {
		t.Fatalf("got %v and kept %v, want one guest kept", err, list)
	}
	script, err := bootstrap.UserData(bootstrap.Params{
		ControlPlaneURL: "https://cloud.example.org", Instance: "01JD0000000000000000000000", GuestSHA256: got.GuestSHA256,
	})
	promised := strings.TrimPrefix(list[0].Name(), "cloudbot-guest-linux-")
	if err != nil || !strings.Contains(script, strings.Replace(promised, "-", " ", 1)) || strings.Contains(script, "\namd64 ") {
		t.Errorf("got %v, want only %s, which is kept, in\n%s", err, promised, script)
	}
}

// A bucket that hangs or fails delays no launch: the catalogue keeps what it saw before.
func TestCatalogueIsKnownWithoutWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var log bytes.Buffer
		type look = func(context.Context) (bootstrap.Downloads, error)
		var now atomic.Pointer[look]
		answer := func(l look) { now.Store(&l) }
		d := &Catalogue{look: func(ctx context.Context) (bootstrap.Downloads, error) { return (*now.Load())(ctx) }, logger: slog.New(slog.NewTextHandler(&log, nil))}
		hang := func(ctx context.Context) (bootstrap.Downloads, error) {
			<-ctx.Done()
			return bootstrap.Downloads{}, ctx.Err()
		}
		guest := func(sum string) look {
			return func(context.Context) (bootstrap.Downloads, error) {
				return bootstrap.Downloads{GuestSHA256: map[string]string{"amd64": sum}}, nil
			}
		}
		ended := make(chan error, 1)
		answer(hang)
		go func() { ended <- d.Run(ctx) }()
		expect := func(when, want string) {
			t.Helper()
			before := time.Now()
			got, err := d.Known()
			if got.GuestSHA256["amd64"] != want || (err == nil) != (want != "") || time.Since(before) > 0 {
				t.Errorf("%s: got %v %v after %v, want got.GuestSHA256[\"amd64\"] %v, (err == nil) to be (want != \"\") and time.Since(before) at most 0", when, got, err, time.Since(before), want)
			}
		}
		synctest.Wait()
		expect("while the first look hangs", "")
		answer(guest("one"))
		time.Sleep(lookTime + lookEvery) // of the bubble
		expect("once it answers", "one")
		answer(func(context.Context) (bootstrap.Downloads, error) { return bootstrap.Downloads{}, errors.New("a 500") })
		time.Sleep(time.Hour)
		expect("after an hour of failures", "one")
		answer(hang)
		time.Sleep(time.Hour)
		expect("after an hour of silence", "one")
		answer(guest("two"))
		time.Sleep(lookTime + lookEvery)
		expect("once it is replaced", "two")
		if n := strings.Count(log.String(), "a 500"); n < 1 || n > 7 {
			t.Errorf("an hour's trouble is said %d times, want n at least 1 and n at most 7", n)
		}
		answer(hang)
		time.Sleep(lookEvery)
		stop() // ends a look that is under way
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
