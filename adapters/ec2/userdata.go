package ec2

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

// UserData renders the script of a machine's first boot; see package bootstrap. Its Render is what
// Config.UserData wants.
type UserData struct {
	ControlPlaneURL string // where machines connect to
	OpenClawURL     string // MOLTBOT_TARBALL_URL: OpenClaw's package where /assets/ has none; "": npm
	OpenClawSHA256  string // MOLTBOT_TARBALL_SHA256: in hex, of the package at OpenClawURL
	NoSudo          bool   // DESKTOP_SUDO=off: a machine's user cannot become root

	// Downloads returns what /assets/ offers, without a call over the network. After ErrNoGuest of package
	// bootstrap a launch is given up; after any other error it is retried. Nil: nothing is to be launched.
	Downloads func() (bootstrap.Downloads, error)
}

// Check reports settings that cannot work. An empty ControlPlaneURL is not looked at.
func (u UserData) Check(production bool) error {
	return errors.Join(u.checkOpenClaw(production), u.checkSample())
}

// checkOpenClaw refuses a package that others could replace: each machine runs what is in it.
func (u UserData) checkOpenClaw(production bool) error {
	if u.OpenClawURL == "" {
		if u.OpenClawSHA256 != "" {
			return errors.New("MOLTBOT_TARBALL_SHA256 is set without MOLTBOT_TARBALL_URL; set both or neither (openclaw.tgz in ASSETS_DIR needs none)")
		}
		return nil
	}
	var errs []error
	// The messages never quote the URL: a presigned one is as good as a password.
	at, err := url.Parse(u.OpenClawURL)
	switch {
	case err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https":
		errs = append(errs, errors.New("MOLTBOT_TARBALL_URL is not a URL; use one such as https://assets.example.org/openclaw.tgz"))
	case !bootstrap.Safe(at): // machines refuse it
		errs = append(errs, errors.New("MOLTBOT_TARBALL_URL is plain http; use https"))
	}
	switch sum, err := hex.DecodeString(u.OpenClawSHA256); {
	case u.OpenClawSHA256 != "" && (err != nil || len(sum) != sha256.Size):
		errs = append(errs, errors.New("MOLTBOT_TARBALL_SHA256 is not a sha256; use the 64 hexadecimal digits that sha256sum prints"))
	case u.OpenClawSHA256 == "" && production:
		errs = append(errs, errors.New("MOLTBOT_TARBALL_SHA256 is empty; in production set it to the sha256 of the package at MOLTBOT_TARBALL_URL"))
	}
	return errors.Join(errs...)
}

// checkSample renders a sample: a setting that user-data cannot hold would otherwise fail each user's launch.
func (u UserData) checkSample() error {
	render := func(setting string, u UserData) error {
		u.Downloads = func() (bootstrap.Downloads, error) {
			return bootstrap.Downloads{GuestSHA256: map[string]string{"amd64": strings.Repeat("0", 64)}}, nil
		}
		_, err := u.Render(machines.LaunchPlan{Instance: "01JD0000000000000000000000"})
		if refused := (*machines.CallError)(nil); errors.As(err, &refused) {
			return fmt.Errorf("%s cannot be used in user-data: %w", setting, refused.Err)
		}
		return err
	}
	var errs []error
	if u.ControlPlaneURL != "" {
		errs = append(errs, render("CONTROL_PLANE_URL", UserData{ControlPlaneURL: u.ControlPlaneURL}))
	}
	errs = append(errs, render("MOLTBOT_TARBALL_URL", UserData{ControlPlaneURL: "https://cloud.example.org", OpenClawURL: u.OpenClawURL}))
	return errors.Join(errs...)
}

// Render returns a launch's user-data. A *machines.CallError with verdict Never says that waiting would
// not help.
func (u UserData) Render(p machines.LaunchPlan) (string, error) {
	if u.Downloads == nil {
		return "", errors.New("this command launches nothing")
	}
	offered, err := u.Downloads()
	switch {
	case errors.Is(err, bootstrap.ErrNoGuest):
		return "", refused(instance.Never, "no_guest", "The service has no guest program for its machines; the operator must add it.", err)
	case err != nil:
		return "", err
	}
	params := bootstrap.Params{ControlPlaneURL: u.ControlPlaneURL, Instance: p.Instance, GuestSHA256: offered.GuestSHA256, NoSudo: u.NoSudo}
	if !offered.OpenClaw && u.OpenClawURL != "" {
		// A pin is by name and would also hold for the package in /assets/, which may be another one: so a machine
		// gets one or the other. A package in /assets/ is checked against the sum published beside it, not pinned:
		// only the newest is kept there, and a pin would outlive it.
		params.OpenClawURL = u.OpenClawURL
		if u.OpenClawSHA256 != "" {
			params.AssetSHA256 = map[string]string{bootstrap.OpenClawAsset: strings.ToLower(u.OpenClawSHA256)}
		}
	}
	text, err := bootstrap.UserData(params)
	if err != nil {
		return "", refused(instance.Never, codeBadUserData, saysBadUserData, err)
	}
	return text, nil
}

// A launch whose user-data cannot be made, or is too large.
const (
	codeBadUserData = "bad_user_data"
	saysBadUserData = "The machine's first boot could not be prepared; the operator must check the server's log."
)
