// Package bootstrap renders a new machine's user-data: a small shell script that installs the guest
// as a systemd unit. The unit downloads the guest's program, checks its sha256, and starts it.
//
// The one thing to know: user-data can be read by everybody on the machine, so it holds no secret
// but a one-time token, and of that only the placeholder: the caller fills it in at launch.
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

// TokenPlaceholder stands where the enrolment token goes.
const TokenPlaceholder = "@ENROLMENT_TOKEN@"

// Limit is the most that EC2 takes as user-data, in bytes.
const Limit = 16 << 10

// roomForToken is what filling the placeholder in may add.
const roomForToken = 512

// Architectures a machine may have, as Go names them.
var Architectures = []string{"amd64", "arm64"}

// Params is what a machine is told about itself.
type Params struct {
	ControlPlaneURL string            // "https://cloud.example.org", reachable from the machine
	Instance        string            // the instance's id
	GuestSHA256     map[string]string // of the guest in hex, by architecture, one or more: the machine asks for /assets/cloudbot-guest-linux-<arch>-<sum>
	AssetSHA256     map[string]string // of other assets, by name: "openclaw.tgz", wherever it comes from; one not listed is taken by the sum published beside it in /assets/
	OpenClawURL     string            // where OpenClaw's package is when /assets/ has none, https: a machine takes nothing else; "": npm at the guest's own version
	Apps            []string          // of browser, editor, office; nil: all
	Agent           string            // "": OpenClaw; "stand-in": the built-in one, for tests
}

//go:embed user-data.sh.tmpl
var text string

var script = template.Must(template.New("user-data").Parse(text))

// UserData returns the script, to be run by cloud-init or by hand, as root. Running it again is
// harmless. It contains TokenPlaceholder exactly once.
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
		return "", fmt.Errorf("render user-data: %d bytes are more than %d", out.Len(), Limit-roomForToken)
	}
	return out.String(), nil
}

// config is the guest's configuration file; see guest.Config.
func (p Params) config() (string, error) {
	agent := cmp.Or(p.Agent, "openclaw")
	b, err := json.MarshalIndent(struct {
		URL      string            `json:"control_plane_url"`
		Instance string            `json:"instance"`
		Token    string            `json:"token"`
		State    string            `json:"state_dir"`
		Install  bool              `json:"install"`
		Apps     []string          `json:"apps,omitzero"`
		Assets   map[string]string `json:"assets,omitempty"`
		OpenClaw string            `json:"openclaw_url,omitempty"`
		Agent    struct {
			Kind string `json:"kind"`
		} `json:"agent"`
	}{p.ControlPlaneURL, p.Instance, TokenPlaceholder, "/var/lib/cloudbot", true, p.Apps, p.AssetSHA256, p.OpenClawURL, struct {
		Kind string `json:"kind"`
	}{agent}}, "", "  ")
	return string(b), err
}

// Everything that gets into the script is of these forms, so it cannot end the block it stands in.
var (
	goodURL  = regexp.MustCompile(`^https?://[A-Za-z0-9._:\[\]-]+(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?$`)
	goodFile = regexp.MustCompile(`^https?://[A-Za-z0-9._:\[\]-]+/[A-Za-z0-9._~/%@?&=+,;:-]+$`) // presigned, maybe; no user and password
	goodID   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	goodSum  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	goodName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
)

// goodPackage admits what can be fetched. It is data in a quoted block, but the placeholder would be filled in there too.
func goodPackage(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && goodFile.MatchString(text) && len(text) <= 2048 && !strings.Contains(text, TokenPlaceholder)
}

// Safe tells whether what is at u cannot be replaced on its way: https, or http that does not leave this computer.
func Safe(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	return u.Scheme == "https" && host != "" || u.Scheme == "http" && (host == "localhost" || ip != nil && ip.IsLoopback())
}

func (p Params) check() error {
	u, err := url.Parse(p.ControlPlaneURL)
	switch {
	case err != nil || u.Host == "" || !goodURL.MatchString(p.ControlPlaneURL) || len(p.ControlPlaneURL) > 512:
		return fmt.Errorf("control plane URL %q: want something like https://cloud.example.org", p.ControlPlaneURL)
	case !goodID.MatchString(p.Instance):
		return fmt.Errorf("instance %q is not an id", p.Instance)
	case p.OpenClawURL != "" && !goodPackage(p.OpenClawURL):
		// Not quoted: it may be presigned.
		return errors.New("OpenClaw's URL: want something like https://assets.example.org/openclaw.tgz, of at most 2048 plain characters")
	case p.Agent != "" && p.Agent != "openclaw" && p.Agent != "stand-in":
		return fmt.Errorf("agent %q: want openclaw or stand-in", p.Agent)
	}
	for _, app := range p.Apps {
		if !slices.Contains([]string{"browser", "editor", "office"}, app) {
			return fmt.Errorf("app %q: want browser, editor or office", app)
		}
	}
	known := 0
	for arch, sum := range p.GuestSHA256 {
		if !slices.Contains(Architectures, arch) || !goodSum.MatchString(sum) {
			return fmt.Errorf("guest for %q with sha256 %q: want one of %v, and 64 hexadecimal digits", arch, sum, Architectures)
		}
		known++
	}
	if known == 0 {
		return errors.New("no guest's sha256 is known")
	}
	for name, sum := range p.AssetSHA256 {
		if !goodName.MatchString(name) || !goodSum.MatchString(sum) {
			return fmt.Errorf("asset %q with sha256 %q", name, sum)
		}
	}
	return nil
}
