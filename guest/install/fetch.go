package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

// errNone says that the control plane does not have the asset.
var errNone = errors.New("the control plane has none")

// get requests url, and retries a few times if the network or the server fails.
func (i *Installer) get(ctx context.Context, url string) (*http.Response, error) {
	var last error
	for _, pause := range []time.Duration{0, 2 * time.Second, 5 * time.Second} {
		if pause > 0 {
			_ = i.c.sleep(ctx, pause)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		res, err := i.c.client.Do(req)
		if err != nil {
			if last = err; ctx.Err() != nil {
				break
			}
			continue
		}
		if res.StatusCode == http.StatusOK {
			return res, nil
		}
		res.Body.Close()
		last = fmt.Errorf("%s answered %s", url, res.Status)
		if res.StatusCode == http.StatusNotFound {
			return nil, fmt.Errorf("%w: %w", errNone, last)
		}
		if res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests {
			break
		}
	}
	return nil, last
}

// download returns the small text at a URL.
func (i *Installer) download(ctx context.Context, url string, most int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	res, err := i.get(ctx, url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(io.LimitReader(res.Body, most))
}

const mostAsset = 1 << 30

// asset downloads an asset of the control plane to path and checks its sha256: against the one in this machine's
// configuration, else the one published beside the asset. It returns errNone if there is no such asset.
func (i *Installer) asset(ctx context.Context, name, path string, mode os.FileMode) error {
	url := i.c.ControlPlaneURL + "/assets/" + name
	want := i.c.Pins[name]
	if want == "" {
		text, err := i.download(ctx, url+".sha256", 1<<10)
		if err != nil {
			return err
		}
		if f := strings.Fields(string(text)); len(f) > 0 {
			want = f[0]
		}
		if !goodSum.MatchString(want) {
			return fmt.Errorf("%s.sha256 contains no sha256, so %s is not used", url, name)
		}
	}
	return i.file(ctx, url, want, path, mode)
}

var goodSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// errOpen says that a URL is not https, so its content could be replaced on the way.
var errOpen = errors.New("the configured URL is not https")

// elsewhere downloads an asset from a URL outside the control plane. The URL is not logged: it may be presigned.
func (i *Installer) elsewhere(ctx context.Context, name, from, path string, mode os.FileMode) error {
	if u, err := url.Parse(from); err != nil || !bootstrap.Safe(u) {
		return errOpen // even with a sum, since a later configuration may omit it
	}
	want := i.c.Pins[name]
	if want == "" {
		i.log.Warn("asset downloaded without a check, no sha256 configured", "asset", name)
	}
	return i.file(ctx, from, want, path, mode)
}

// noDowngrade refuses redirects from https to an unencrypted URL.
func noDowngrade(r *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("more than 10 redirects")
	}
	if bootstrap.Safe(via[0].URL) && !bootstrap.Safe(r.URL) {
		return fmt.Errorf("%s redirects to %s, which is not https", via[0].URL.Redacted(), r.URL.Redacted())
	}
	return nil
}

// file downloads url to path and checks its sha256; want "": no check.
func (i *Installer) file(ctx context.Context, url, want, path string, mode os.FileMode) error {
	res, err := i.get(ctx, url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	path = i.path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(res.Body, mostAsset+1))
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n > mostAsset || want != "" && got != want {
		return fmt.Errorf("%s has sha256 %s and %d bytes, expected %s", url, got, n, want)
	}
	return os.Rename(f.Name(), path)
}
