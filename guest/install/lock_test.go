package install

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lock takes one of the package system's locks, as another program would, until release is called.
func lock(t *testing.T, c *computer, name string) (release func()) {
	t.Helper()
	path := filepath.Join(c.root, name)
	if err := putFile(path, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	// The lock belongs to the open file, not to the process, so queries from this process also see it.
	const ofdSetLock = 37
	if err := syscall.FcntlFlock(f.Fd(), ofdSetLock, &syscall.Flock_t{Type: syscall.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	return func() { f.Close() }
}

// held fails the commands that dpkg and apt would fail while other programs have their locks.
func held(i *Installer) func(string) error {
	return func(line string) error {
		if (strings.HasPrefix(line, "dpkg") || strings.Contains(line, "apt-get")) && i.lockHolder() != "" {
			return errors.New("exit status 2")
		}
		return nil
	}
}

func TestAHeldLockIsWaitedForAndNoTry(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			c := working(t)
			release := lock(t, c, name)
			var waited time.Duration
			i := c.installer(t, func(cfg *Config) {
				cfg.Apps = []string{"office"}
				cfg.sleep = func(_ context.Context, d time.Duration) error {
					if waited += d; waited > 4*time.Minute {
						release()
					}
					return nil
				}
			})
			c.fail = held(i)
			reached, said, err := run(t, i)
			if err != nil || len(reached) != 3 || c.did("dpkg --configure") == 0 {
				t.Fatalf("got %v %v, want no error, len(reached) 3 and c.did(\"dpkg --configure\") other than 0\n%s", reached, err, c.log.String())
			}
			if strings.Contains(c.log.String(), "installation failed") || c.did("libreoffice-writer") != 1 {
				t.Errorf("the wait was taken for a failure, want no \"installation failed\" in c.log.String() and c.did(\"libreoffice-writer\") 1\n%s", c.log.String())
			}
			if n := strings.Count(c.log.String(), "waiting for the package system"); n != 5 {
				t.Errorf("said %d times in four minutes, want once a minute", n)
			}
			shown := false
			for _, p := range said {
				shown = shown || strings.Contains(p.Detail, "to release the package system (2m0s so far)")
			}
			if !shown {
				t.Errorf("got progress %v, want the wait in it", said)
			}
		})
	}
}

// online serves every vendor's signing key, and the rest through another transport.
type online struct{ http.RoundTripper }

func (o online) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, ".key") || strings.HasSuffix(r.URL.Path, ".asc") || strings.HasSuffix(r.URL.Path, ".pub") {
		w := httptest.NewRecorder()
		_, _ = w.WriteString("-----BEGIN PGP PUBLIC KEY BLOCK-----")
		return w.Result(), nil
	}
	return o.RoundTripper.RoundTrip(r)
}

func TestALockThatIsNeverReleasedIsTheReasonGiven(t *testing.T) {
	t.Parallel()
	c := working(t)
	var release func()
	i := c.installer(t, func(cfg *Config) {
		cfg.Apps = []string{"editor"}
		cfg.client = &http.Client{Transport: online{cfg.client.Transport}}
	})
	c.fail = func(line string) error {
		if strings.Contains(line, "npm install") && release == nil { // desktop and agent are there by then
			release = lock(t, c, lockFiles[0])
		}
		return nil
	}
	reached, _, err := run(t, i)
	if len(reached) != 3 || !errors.Is(err, errLocked) || !strings.Contains(err.Error(), "by another program for 10m0s") {
		t.Fatalf("got %v %v, want len(reached) 3, error %v and \"by another program for 10m0s\" in err.Error()", reached, err, errLocked)
	}
	if text := c.log.String(); strings.Contains(text, "vendor unavailable") || c.did("geany") > 0 {
		t.Errorf("got the vendor blamed, want no \"vendor unavailable\" in text and c.did(\"geany\") at most 0\n%s", text)
	}
	if n := strings.Count(c.log.String(), "step=editor try=1"); n != optionalWaits {
		t.Errorf("begun %d times, want %d waits and none of them a try\n%s", n, optionalWaits, c.log.String())
	}
	release()
	if _, _, err := run(t, i); err != nil || i.Notes()["editor"] != "code" {
		t.Errorf("the next boot: got %v, want no error and \"code\"", err)
	}
}

// TestAnotherProgramTakesTheLockInBetween makes a command fail because another program was faster.
func TestAnotherProgramTakesTheLockInBetween(t *testing.T) {
	t.Parallel()
	c := working(t)
	var release func()
	i := c.installer(t, func(cfg *Config) {
		cfg.Apps = []string{"office"}
		cfg.sleep = func(context.Context, time.Duration) error {
			if release != nil {
				release()
			}
			return nil
		}
	})
	c.fail = func(line string) error {
		if strings.Contains(line, "libreoffice") && release == nil {
			release = lock(t, c, "/var/lib/dpkg/lock")
			return errors.New("exit status 100")
		}
		return nil
	}
	if _, _, err := run(t, i); err != nil || c.did("libreoffice") != 2 || strings.Contains(c.log.String(), "installation failed") {
		t.Errorf("got %v, want no error, c.did(\"libreoffice\") 2 and no \"installation failed\" in c.log.String()\n%s", err, c.log.String())
	}
}

func TestTheHolderIsNamed(t *testing.T) {
	t.Parallel()
	c := newComputer(t)
	i := c.installer(t, nil)
	if who := i.lockHolder(); who != "" {
		t.Errorf("%s holds what is not there, want \"\"", who)
	}
	release := lock(t, c, lockFiles[0])
	if who := i.lockHolder(); who != "another program" {
		t.Errorf("got %q, want \"another program\"", who)
	}
	release()
	if who := i.lockHolder(); who != "" {
		t.Errorf("%s holds what was released, want \"\"", who)
	}
}
