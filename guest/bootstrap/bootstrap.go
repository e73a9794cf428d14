// Package bootstrap renders a new machine's user-data: a small shell script that installs the guest as a systemd unit. The
// unit downloads the guest program, checks its sha256, and starts it.
//
// The one thing to know: every user of the machine can read user-data, so its only secret is a one-time token. The
// rendered script contains a placeholder for it, which the caller replaces at launch.
package bootstrap

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

// TokenPlaceholder is replaced by the enrolment token.
const TokenPlaceholder = "@ENROLMENT_TOKEN@"

// Limit is EC2's limit of user-data, in bytes.
const Limit = 16 << 10

// roomForToken is how many bytes the token may add.
const roomForToken = 512

// Architectures lists the architectures of machines, as Go names them.
var Architectures = []string{"amd64", "arm64"}

// Params holds the contents of a machine's user-data.
type Params struct {
	ControlPlaneURL string            // "https://cloud.example.org", reachable from the machine
	Instance        string            // the instance's id
	GuestSHA256     map[string]string // of the guest in hex, by architecture, one or more: the machine downloads /assets/cloudbot-guest-linux-<arch>-<sum>
	AssetSHA256     map[string]string // of other assets, by name: "openclaw.tgz", from any source; others are checked against the sum published beside them in /assets/
	OpenClawURL     string            // of OpenClaw's package if /assets/ has none; must be https; "": npm, at the guest's own version
	Apps            []string          // of browser, editor, office; nil: all
	NoSudo          bool              // the machine's user cannot become root
	Agent           string            // "": OpenClaw; "stand-in": the built-in one, for tests
}

//go:embed user-data.sh.tmpl
var text string

var script = template.Must(template.New("user-data").Parse(text))

// UserData returns the script, which cloud-init or an operator runs as root. Running it again is harmless. It contains
// TokenPlaceholder exactly once.
func UserData(p Params) (string, error) {
	if err := p.check(); err != nil {
		return "", fmt.Errorf("render user-data: %w", err)
	}
	config, err := p.config()
	if err != nil {
		return "", err
	}
	var sums []string
	for _, arch := range Architectures {
		if sum := p.GuestSHA256[arch]; sum != "" {
			sums = append(sums, arch+" "+sum)
		}
	}
	var out strings.Builder
	err = script.Execute(&out, map[string]any{"URL": p.ControlPlaneURL, "Sums": sums, "Config": config})
	switch {
	case err != nil:
		return "", err
	case out.Len() > Limit-roomForToken:
		return "", fmt.Errorf("render user-data: got %d bytes, want at most %d", out.Len(), Limit-roomForToken)
	}
	return out.String(), nil
}

// config returns the guest's configuration file; see guest.Config.
func (p Params) config() (string, error) {
	agent, sudo := cmp.Or(p.Agent, "openclaw"), "" // a guest that knows no sudo needs no setting
	if p.NoSudo {
		sudo = "off"
	}
	b, err := json.MarshalIndent(struct {
		URL      string            `json:"control_plane_url"`
		Instance string            `json:"instance"`
		Token    string            `json:"token"`
		State    string            `json:"state_dir"`
		Install  bool              `json:"install"`
		Apps     []string          `json:"apps,omitzero"`
		Assets   map[string]string `json:"assets,omitempty"`
		OpenClaw string            `json:"openclaw_url,omitempty"`
		Sudo     string            `json:"sudo,omitempty"`
		Agent    struct {
			Kind string `json:"kind"`
		} `json:"agent"`
	}{p.ControlPlaneURL, p.Instance, TokenPlaceholder, "/var/lib/cloudbot", true, p.Apps, p.AssetSHA256, p.OpenClawURL, sudo, struct {
		Kind string `json:"kind"`
	}{agent}}, "", "  ")
	return string(b), err
}

// Every value in the script has one of these forms, so it cannot end the block that contains it.
var (
	goodURL  = regexp.MustCompile(`^https?://[A-Za-z0-9._:\[\]-]+(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?$`)
	goodFile = regexp.MustCompile(`^https?://[A-Za-z0-9._:\[\]-]+/[A-Za-z0-9._~/%@?&=+,;:-]+$`) // may be presigned; without user and password
	goodID   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	goodSum  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	goodName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
)

// goodPackage accepts URLs that can be fetched. The URL is data in a quoted block, but a placeholder in it would also be
// replaced.
func goodPackage(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && goodFile.MatchString(text) && len(text) <= 2048 && !strings.Contains(text, TokenPlaceholder)
}

// Safe reports whether the content of u cannot be replaced on the way: https, or http that stays on this computer.
func Safe(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	return u.Scheme == "https" && host != "" || u.Scheme == "http" && (host == "localhost" || ip != nil && ip.IsLoopback())
}

func (p Params) check() error {
	u, err := url.Parse(p.ControlPlaneURL)
	switch {
	case err != nil || u.Host == "" || !goodURL.MatchString(p.ControlPlaneURL) || len(p.ControlPlaneURL) > 512:
		return fmt.Errorf("control plane URL %q: use a URL such as https://cloud.example.org", p.ControlPlaneURL)
	case !goodID.MatchString(p.Instance):
		return fmt.Errorf("instance %q is not an id", p.Instance)
	case p.OpenClawURL != "" && !goodPackage(p.OpenClawURL):
		// Not quoted: it may be presigned.
		return errors.New("OpenClaw's URL: use one such as https://assets.example.org/openclaw.tgz, of at most 2048 plain characters")
	case p.Agent != "" && p.Agent != "openclaw" && p.Agent != "stand-in":
		return fmt.Errorf("agent %q: use openclaw or stand-in", p.Agent)
	}
	for _, app := range p.Apps {
		if !slices.Contains([]string{"browser", "editor", "office"}, app) {
			return fmt.Errorf("app %q: use browser, editor or office", app)
		}
	}
	known := 0
	for arch, sum := range p.GuestSHA256 {
		if !slices.Contains(Architectures, arch) || !goodSum.MatchString(sum) {
			return fmt.Errorf("guest for %q with sha256 %q: use one of %v, and 64 hexadecimal digits", arch, sum, Architectures)
		}
		known++
	}
	if known == 0 {
		return errors.New("no sha256 of a guest")
	}
	for name, sum := range p.AssetSHA256 {
		if !goodName.MatchString(name) || !goodSum.MatchString(sum) {
			return fmt.Errorf("asset %q with sha256 %q: use a plain name, and 64 hexadecimal digits", name, sum)
		}
	}
	return nil
}
