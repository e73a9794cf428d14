package ec2

import (
	"errors"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

// Machines get OpenClaw over https and with a sum, or the server does not start.
func TestOpenClawsPackageIsChecked(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("aB", 32)
	for name, c := range map[string]struct {
		url, sum   string
		production bool
		says       string // a part of the error; "": the settings are accepted
	}{
		"neither":                    {"", "", true, ""},
		"both":                       {"https://x.example/o.tgz", sum, true, ""},
		"presigned":                  {"https://x.example/o%40.tgz?X-Amz-Signature=f0&X-Amz-Date=1", sum, true, ""},
		"without a sum":              {"https://x.example/o.tgz", "", true, "MOLTBOT_TARBALL_SHA256 is empty"},
		"without a sum, to try":      {"https://x.example/o.tgz", "", false, ""},
		"over http, to try":          {"http://x.example/o.tgz", "", false, "MOLTBOT_TARBALL_URL is plain http"},
		"over http":                  {"http://x.example/o.tgz?secret", sum, true, "MOLTBOT_TARBALL_URL is plain http"},
		"over http on this computer": {"http://127.0.0.1:1/o.tgz", sum, true, ""},
		"no sum":                     {"https://x.example/o.tgz", "abc", false, "MOLTBOT_TARBALL_SHA256 is not"},
		"a sum of nothing":           {"", sum, false, "MOLTBOT_TARBALL_SHA256 is set without"},
		"another scheme":             {"ftp://x.example/secret", sum, false, "MOLTBOT_TARBALL_URL is not"},
		"what no script can hold":    {"https://x.example/`id`?secret", sum, false, "MOLTBOT_TARBALL_URL cannot be used in user-data"},
	} {
		err := UserData{ControlPlaneURL: "https://cloud.example.org", OpenClawURL: c.url, OpenClawSHA256: c.sum}.Check(c.production)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: got %v, want an error with %q and without the URL", name, err, c.says)
		}
	}
}

// offers is a control plane with a guest, and maybe with a package of OpenClaw.
func offers(openClaw bool) func() (bootstrap.Downloads, error) {
	return func() (bootstrap.Downloads, error) {
		return bootstrap.Downloads{GuestSHA256: map[string]string{"amd64": strings.Repeat("a1", 32)}, OpenClaw: openClaw}, nil
	}
}

var plan = machines.LaunchPlan{Instance: "01JD0000000000000000000000", Attempt: 1}

// The sum is the pin of the package at the URL. Where /assets/ has a package of its own, which may be another, machines
// get that one instead.
func TestOpenClawIsPinned(t *testing.T) {
	t.Parallel()
	u := UserData{ControlPlaneURL: "https://cloud.example.org", OpenClawURL: "https://x.example/o.tgz", OpenClawSHA256: strings.Repeat("aB", 32)}
	for own, want := range map[bool]bool{false: true, true: false} {
		u.Downloads = offers(own)
		text, err := u.Render(plan)
		pinned := strings.Contains(text, `"openclaw.tgz": "`+strings.Repeat("ab", 32)+`"`)
		if err != nil || pinned != want || strings.Contains(text, u.OpenClawURL) != want {
			t.Errorf("with a package in the assets %v: got %v, pinned %v, want it pinned and its URL in the text: %v\n%s", own, err, pinned, want, text)
		}
	}
	// Without a sum, as in development, there is no pin.
	u.OpenClawSHA256, u.Downloads = "", offers(false)
	if text, err := u.Render(plan); err != nil || strings.Contains(text, "openclaw.tgz") || !strings.Contains(text, u.OpenClawURL) {
		t.Errorf("got %v, want the URL and no pin in\n%s", err, text)
	}
}

// Waiting would bring no guest and repair no setting, so the launch is given up. Any other error is retried.
func TestUserDataThatCannotBeRendered(t *testing.T) {
	t.Parallel()
	fails := func(err error) func() (bootstrap.Downloads, error) {
		return func() (bootstrap.Downloads, error) { return bootstrap.Downloads{}, err }
	}
	for _, c := range []struct {
		name, url string
		downloads func() (bootstrap.Downloads, error)
		code      string // of the error that gives the launch up; "": it is retried
	}{
		{"a URL that no script can hold", "https://cloud.example.org/`id`", offers(false), "bad_user_data"},
		{"no guest", "https://cloud.example.org", fails(bootstrap.ErrNoGuest), "no_guest"},
		{"assets that cannot be read", "https://cloud.example.org", fails(errors.New("a 500")), ""},
		{"a command that launches nothing", "https://cloud.example.org", nil, ""},
	} {
		_, err := UserData{ControlPlaneURL: c.url, Downloads: c.downloads}.Render(plan)
		var final *machines.CallError
		switch given := errors.As(err, &final); {
		case err == nil:
			t.Errorf("%s: got no error, want one", c.name)
		case given != (c.code != ""):
			t.Errorf("%s: got %v, want it to give the launch up: %v", c.name, err, c.code != "")
		case given && (final.Verdict != instance.Never || final.Code != c.code):
			t.Errorf("%s: got %s with code %s, want %s with code %s", c.name, final.Verdict, final.Code, instance.Never, c.code)
		}
	}
}
