package machine

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSystemdPage follows deploy/systemd/README.md on a bare Debian, command by command, to the dashboard over TLS. Then it
// restarts, upgrades and uninstalls the server.
func TestSystemdPage(t *testing.T) {
	if os.Getenv("E2E_SYSTEMD") == "" {
		t.Skip("set E2E_SYSTEMD=1 to boot a bare Debian (make systemd-test)")
	}
	if os.Getuid() != 0 {
		t.Fatal("booting a machine needs root")
	}
	v := bootVM(t)
	v.put("v1.0.0")
	install := commands(t, "Install")
	outputs := v.run(install)
	if last := outputs[len(outputs)-1]; !strings.Contains(last, `"status":"ready"`) {
		t.Errorf("the page's last command: got %q, want a server that is ready", last)
	}
	if len(install) > 10 {
		t.Errorf("got %d commands, want 10 or fewer", len(install))
	}
	code := word(strings.Join(outputs, ""), "Code:")

	c := v.client()
	_, page := v.mustAsk(c, http.StatusOK, "GET", "/app/", "", "")
	if !strings.Contains(page, `<div id="root"`) {
		t.Errorf("the dashboard: got %.300s, want its page", page)
	}
	for _, asset := range regexp.MustCompile(`(?:src|href)="(/app/[^"]+)"`).FindAllStringSubmatch(page, -1) {
		v.mustAsk(c, http.StatusOK, "GET", asset[1], "", "")
	}
	credentials := `"email":"you@example.com","password":"a long enough pass phrase"`
	v.mustAsk(c, http.StatusForbidden, "POST", "/api/auth/signup", "", "{"+credentials+"}")
	_, text := v.mustAsk(c, http.StatusCreated, "POST", "/api/auth/signup", "", "{"+credentials+`,"invite":"`+code+`"}`)
	token := field(text, "access_token")
	header, _ := v.mustAsk(c, http.StatusOK, "GET", "/api/auth/me", token, "")
	if n := len(header.Values("Strict-Transport-Security")); n != 1 {
		t.Errorf("got %d Strict-Transport-Security, want 1", n)
	}
	_, text = v.mustAsk(c, http.StatusAccepted, "POST", "/api/instances", token, "{}")
	id := field(text, "id")
	await(t, time.Minute, "the log to say that no desktop can be created", func() bool {
		out, _ := v.inside.sh("journalctl -u cloudbot --no-pager | grep -c 'machine image unusable, launches will fail'")
		return strings.TrimSpace(out) != "0"
	})
	v.mustAsk(c, http.StatusAccepted, "DELETE", "/api/instances/"+id, token, "")

	v.isClosed()
	v.isHardened()

	before := v.awaitBoot("")
	v.inside.must("systemctl reboot")
	v.awaitBoot(before)
	t.Logf("after a reboot the server was ready %.1fs after systemd", v.awaitReady(c).Seconds())
	v.inside.must("systemctl kill -s KILL cloudbot")
	t.Logf("after a crash the server was ready again in %.1fs", v.awaitReady(c).Seconds())
	logIn := func() { v.mustAsk(c, http.StatusOK, "POST", "/api/auth/login", "", "{"+credentials+"}") }
	logIn()

	// Again, and with another version.
	again := v.inside.must("/opt/cloudbot/deploy/systemd/install.sh cloudbot.example --local-ca")
	if strings.Contains(again, "created") || strings.Contains(again, "made") || strings.Contains(again, "wrote") {
		t.Errorf("install.sh again: got %s, want nothing new", again)
	}
	logIn()
	v.put("v1.0.1")
	var upgrade []string
	for _, c := range commands(t, "Upgrade") {
		upgrade = append(upgrade, strings.ReplaceAll(c, "VERSION", "v1.0.1"))
	}
	v.run(upgrade)
	if now, _ := os.Readlink(filepath.Join(v.root, "opt/cloudbot")); now != "/opt/cloudbot-v1.0.1-linux-amd64" {
		t.Errorf("after the upgrade: got %s, want v1.0.1", now)
	}
	v.awaitReady(c)
	logIn()

	v.run(commands(t, "Uninstall"))
	if left := v.inside.must("ls -d /opt/cloudbot* /etc/cloudbot* /var/lib/cloudbot* /etc/systemd/system/cloudbot* 2>/dev/null; getent passwd cloudbot; true"); left != "" {
		t.Errorf("after uninstalling: got %s, want nothing left", left)
	}
	fmt.Printf("systemd page: %d commands from a bare Debian to the dashboard over TLS; 1 account, 1 reboot, 1 crash, 1 upgrade\n", len(install))
}

// isClosed checks that only Caddy listens on the network, and who can read secrets.
func (v *vm) isClosed() {
	v.t.Helper()
	open := v.listeners()
	for line := range strings.Lines(open) {
		if !regexp.MustCompile(`:(80|443)$`).MatchString(strings.TrimSpace(line)) {
			v.t.Errorf("got a listener %s, want only 80 and 443 on the network", line)
		}
	}
	if !strings.Contains(open, ":443") {
		v.t.Errorf("got listeners %q, want 443 among them", open)
	}
	if modes := v.inside.must("stat -c '%a %U:%G' /etc/cloudbot /etc/cloudbot/.env /etc/cloudbot/secrets/*"); strings.Count(modes, "640 root:cloudbot") != 4 || strings.Count(modes, "750 root:cloudbot") != 1 {
		v.t.Errorf("got modes %s, want secrets that only root and cloudbot read", modes)
	}
	pid := strings.TrimSpace(v.inside.must("systemctl show -p MainPID --value cloudbot"))
	if user := strings.TrimSpace(v.inside.must("ps -o user= -p " + pid)); user != "cloudbot" {
		v.t.Errorf("got the server as %s, want cloudbot", user)
	}
	v.t.Logf("memory of the server: %s KiB", strings.TrimSpace(v.inside.must("ps -o rss= -p "+pid)))
}

// isHardened compares systemd's rating with the page's.
func (v *vm) isHardened() {
	v.t.Helper()
	rating := v.inside.must("systemd-analyze security cloudbot --no-pager | tail -n 1")
	page, err := os.ReadFile("../../deploy/systemd/README.md")
	if err != nil {
		v.t.Fatal(err)
	}
	said := regexp.MustCompile(`rates its exposure ([0-9.]+) `).FindSubmatch(page)
	if said == nil || !strings.Contains(rating, " "+string(said[1])+" ") {
		v.t.Errorf("got %s, want the page's rating %s", rating, said)
	}
}
