package bootstrap

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

func params() Params {
	return Params{
		ControlPlaneURL: "https://cloud.example.org",
		Instance:        "01JD0000000000000000000000",
		GuestSHA256:     map[string]string{"amd64": strings.Repeat("a1", 32), "arm64": strings.Repeat("b2", 32)},
		AssetSHA256:     map[string]string{"openclaw.tgz": strings.Repeat("c3", 32)},
		OpenClawURL:     "https://assets.example.org/openclaw.tgz",
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	got, err := UserData(params())
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/user-data.sh"
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Fatalf("user-data is not what %s says (go test -update writes it): got %v, want no error and %v", path, err, string(want))
	}
	if n := strings.Count(got, TokenPlaceholder); n != 1 {
		t.Errorf("the placeholder stands there %d times, want 1", n)
	}
	if len(got) > 8<<10 {
		t.Errorf("%d bytes: half of what EC2 takes should do, want at most %v", len(got), 8<<10)
	}
	for _, secret := range []string{"API_KEY", "sk-", "password"} {
		if strings.Contains(got, secret) {
			t.Errorf("user-data speaks of %q, want no %q in got", secret, secret)
		}
	}
}

func TestSudoIsSetOnlyToForbidIt(t *testing.T) {
	t.Parallel()
	for _, off := range []bool{false, true} {
		p := params()
		p.NoSudo = off
		text, err := UserData(p)
		if err != nil || strings.Contains(text, `"sudo": "off"`) != off || strings.Contains(text, "sudo") != off {
			t.Errorf("NoSudo %v: got %v %s, want the setting only if it is off: older guests refuse it", off, err, text)
		}
	}
}

// TestShellCheck runs if shellcheck is installed; it also checks the script within the script.
func TestShellCheck(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed")
	}
	got, err := UserData(params())
	if err != nil {
		t.Fatal(err)
	}
	_, inner, _ := strings.Cut(got, "<<'CLOUDBOT_SCRIPT'\n")
	inner, _, _ = strings.Cut(inner, "CLOUDBOT_SCRIPT\n")
	for name, text := range map[string]string{"user-data": got, "fetch-guest": inner} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), path, file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestRefusesWhatCouldBecomeACommand(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Params){
		"command in the URL":     func(p *Params) { p.ControlPlaneURL = "https://x.example/$(reboot)" },
		"newline in the URL":     func(p *Params) { p.ControlPlaneURL = "https://x.example\nCLOUDBOT_DATA" },
		"password in the URL":    func(p *Params) { p.ControlPlaneURL = "https://user:pass@x.example" },
		"slash at the end":       func(p *Params) { p.ControlPlaneURL += "/" },
		"no scheme":              func(p *Params) { p.ControlPlaneURL = "x.example" },
		"quote in the instance":  func(p *Params) { p.Instance = `a"b` },
		"end of the block":       func(p *Params) { p.Instance = "a\nCLOUDBOT_DATA" },
		"no instance":            func(p *Params) { p.Instance = "" },
		"no guest":               func(p *Params) { p.GuestSHA256 = nil },
		"odd architecture":       func(p *Params) { p.GuestSHA256["$(id)"] = strings.Repeat("a1", 32) },
		"short sum":              func(p *Params) { p.GuestSHA256["amd64"] = "a1" },
		"sum with a newline":     func(p *Params) { p.GuestSHA256["amd64"] = strings.Repeat("a1", 32) + "\n" },
		"asset's name":           func(p *Params) { p.AssetSHA256["../x"] = strings.Repeat("a1", 32) },
		"asset's sum":            func(p *Params) { p.AssetSHA256["openclaw.tgz"] = "`id`" },
		"backtick in OpenClaw's": func(p *Params) { p.OpenClawURL = "https://x.example/`id`" },
		"dollar in OpenClaw's":   func(p *Params) { p.OpenClawURL = "https://x.example/a?b=$(id)" },
		"newline in OpenClaw's":  func(p *Params) { p.OpenClawURL = "https://x.example/a?b=\nCLOUDBOT_DATA" },
		"password in OpenClaw's": func(p *Params) { p.OpenClawURL = "https://user:pass@x.example/a.tgz" },
		"token in OpenClaw's":    func(p *Params) { p.OpenClawURL = "https://x.example/a.tgz?" + TokenPlaceholder },
		"half an escape":         func(p *Params) { p.OpenClawURL = "https://x.example/a%2" },
		"file of OpenClaw's":     func(p *Params) { p.OpenClawURL = "file:///etc/passwd" },
		"unknown app":            func(p *Params) { p.Apps = []string{"browser;id"} },
		"unknown agent":          func(p *Params) { p.Agent = "x" },
	} {
		p := params()
		change(&p)
		if got, err := UserData(p); err == nil {
			t.Errorf("%s: accepted, want an error\n%s", name, got)
		}
	}
}

// A presigned URL reaches the guest unchanged, through bash and JSON.
func TestPresignedURL(t *testing.T) {
	t.Parallel()
	p := params()
	p.OpenClawURL = "https://b.s3.eu-central-1.amazonaws.com/openclaw%40latest.tgz?X-Amz-Credential=AK%2F20260101%2Fs3&X-Amz-Date=a@b,c;d+e&X-Amz-Signature=" + strings.Repeat("f0", 32)
	got, err := UserData(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "guest.json")
	_, put, _ := strings.Cut(got, "put /etc/cloudbot/guest.json 600 ")
	put, _, _ = strings.Cut(put, "\nCLOUDBOT_DATA\n")
	if out, err := exec.CommandContext(t.Context(), "bash", "-c", "cat >'"+file+"' "+put+"\nCLOUDBOT_DATA\n").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	var config struct {
		OpenClaw string `json:"openclaw_url"`
	}
	if err != nil || json.Unmarshal(text, &config) != nil || config.OpenClaw != p.OpenClawURL {
		t.Errorf("got %v, want no error, json.Unmarshal(text, &config) nil and config.OpenClaw %v\n%s", err, p.OpenClawURL, text)
	}
	p.OpenClawURL = "https://x.example/`id`?X-Amz-Signature=secret"
	if _, err := UserData(p); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("an error tells of the signature: got %v, want an error and no \"secret\" in err.Error()", err)
	}
}

// TestScriptParses lets bash parse the whole script.
func TestScriptParses(t *testing.T) {
	t.Parallel()
	got, err := UserData(params())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "bash", "-n", "-c", got).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestFetch runs the script that fetches the guest, in a folder instead of a computer, against a server that first fails,
// then serves another program, then the right one.
func TestFetch(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	program := []byte("the guest's program\n")
	sum := fmt.Sprintf("%x", sha256.Sum256(program))
	var mu sync.Mutex
	answers := [][]byte{nil, []byte("another program"), program}
	asked := 0
	answer := func(now ...[]byte) {
		mu.Lock()
		defer mu.Unlock()
		answers = now
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/assets/cloudbot-guest-linux-") || !strings.HasSuffix(r.URL.Path, "64-"+sum) {
			t.Errorf("asked for %s, want r.URL.Path to begin with \"/assets/cloudbot-guest-linux-\" and r.URL.Path to end with %q", r.URL.Path, "64-"+sum)
		}
		mu.Lock()
		text := answers[min(asked, len(answers)-1)]
		asked++
		mu.Unlock()
		if text == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(text)
	}))
	defer server.Close()
	p := params()
	p.ControlPlaneURL, p.GuestSHA256 = server.URL, map[string]string{"amd64": sum, "arm64": sum}
	got, err := UserData(p)
	if err != nil {
		t.Fatal(err)
	}
	block := func(after string) string {
		_, text, _ := strings.Cut(got, after)
		_, text, _ = strings.Cut(text, "\n")
		text, _, _ = strings.Cut(text, "\nCLOUDBOT_")
		return text + "\n"
	}
	dir := t.TempDir()
	guest, source := filepath.Join(dir, "guest"), filepath.Join(dir, "source")
	script := strings.NewReplacer("/usr/local/bin/cloudbot-guest", guest, "/etc/cloudbot/source", source, "/dev/console", filepath.Join(dir, "console"), `sleep "$wait"`, ":").
		Replace(block("put /usr/local/lib/cloudbot/fetch-guest"))
	if err := os.WriteFile(source, []byte(block("put /etc/cloudbot/source")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wantAsked := range []int{3, 3} { // the second time it is installed already
		if out, err := exec.CommandContext(t.Context(), "bash", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		mu.Lock()
		n := asked
		mu.Unlock()
		if text, err := os.ReadFile(guest); err != nil || !bytes.Equal(text, program) || n != wantAsked {
			t.Errorf("%q %v after %d answers, want %d", text, err, n, wantAsked)
		}
	}
	answer([]byte("another program"))
	if err := os.WriteFile(guest, []byte("damaged"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "bash", "-c", script).CombinedOutput()
	if err == nil || bytes.Contains(out, []byte("any more")) {
		t.Errorf("a program with another sum was taken, want an error and no []byte(\"any more\") in out\n%s", out)
	}
	answer([]byte(`{"status":404,"title":"Not Found","code":"guest_gone","detail":"…"}`))
	out, err = exec.CommandContext(t.Context(), "bash", "-c", script).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("no guest with this machine's sha256 any more")) || !bytes.Contains(out, []byte("create another")) {
		t.Errorf("a guest that is gone is not said to be: got %v, want an error, []byte(\"no guest with this machine's sha256 any more\") in out and []byte(\"create another\") in out\n%s", err, out)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "console")); err != nil || !bytes.Contains(text, []byte("any more")) {
		t.Errorf("the console says %q, %v, want no error and []byte(\"any more\") in text", text, err)
	}
	if left, _ := filepath.Glob(guest + ".*"); len(left) > 0 {
		t.Errorf("left behind: got %v, want none", left)
	}
}

func TestSafe(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"https://x.example/a": true, "http://127.0.0.1:80/a": true, "http://[::1]/a": true, "http://localhost:8000/a": true,
		"http://x.example/a": false, "http://10.0.0.1/a": false, "http://localhost.x.example/a": false, "http://127.0.0.1.x.example/": false,
		"ftp://127.0.0.1/a": false, "https:///a": false, "/a": false, "": false,
	} {
		if u, err := url.Parse(text); err != nil || Safe(u) != want {
			t.Errorf("%q: got %v, %v, want no error and %v", text, !want, err, want)
		}
	}
}

func TestProcessConfig(t *testing.T) {
	t.Parallel()
	script, err := UserData(params())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ProcessConfig(strings.Replace(script, TokenPlaceholder, "the.token", 1), "/s", "b1")
	const want = `{"boot":"b1","control_plane_url":"https://cloud.example.org","instance":"01JD0000000000000000000000","state_dir":"/s","token":"the.token"}`
	if err != nil || string(got) != want {
		t.Errorf("got %s %v, want no error and %v", got, err, want)
	}
	if _, err := ProcessConfig("#!/bin/sh\n", "/s", "b1"); err == nil {
		t.Error("got no error for another script, want one")
	}
}
