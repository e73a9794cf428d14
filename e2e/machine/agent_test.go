package machine

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"time"
)

// agentIsSetUp checks our part of the real agent's configuration beside the operator's, and what the machine reports.
func (m *story) agentIsSetUp() {
	m.t.Helper()
	if !m.real {
		return
	}
	const config = "/home/cloudbot/.openclaw/openclaw.json"
	m.inside.must(`test "$(stat -c '%a %U' ` + config + `)" = "600 cloudbot"`)
	text := m.inside.must("cat " + config)
	for _, part := range []string{"fake/echo-1", "gateway-client", "conversations_turn", `"0m"`} {
		if !strings.Contains(text, part) {
			m.t.Errorf("configuration: got %s, want %s in it", text, part)
		}
	}
	m.inside.must(`test "$(stat -c %U /home/cloudbot/workspace/AGENTS.md)" = cloudbot`)
	m.inside.must("grep -qz ^DISPLAY=:200 /proc/$(systemctl show -p MainPID --value cloudbot-openclaw)/environ")
	await(m.t, 5*time.Minute, "the agent's tools", func() bool { // they are installed while the agent starts
		_, err := m.inside.sh("which xclip scrot convert")
		return err == nil
	})
	var got struct {
		Versions map[string]string `json:"versions"`
	}
	body := m.must(200, "GET", "/api/instances/"+m.id, "")
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		m.t.Fatal(err)
	}
	for name, want := range map[string]string{"agent": "openclaw", "agent_sees": "desktop", "model": "fake/echo-1"} {
		if got.Versions[name] != want {
			m.t.Errorf("versions: got %v, want %s %q", got.Versions, name, want)
		}
	}
}

// agentUsesTheDesktop has the model work on XFCE.
func (m *story) agentUsesTheDesktop() {
	m.t.Helper()
	if !m.real {
		return
	}
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	v, err := m.view(ctx, m.id)
	if err != nil {
		m.t.Fatal(err)
	}
	await(m.t, 10*time.Minute, "the browser and the editor", func() bool {
		_, err := m.inside.sh("(which google-chrome || which chromium) && (which geany || which mousepad || which code)")
		return err == nil
	})
	editor := strings.TrimSpace(m.inside.must("basename $(which geany mousepad code | head -n 1)"))
	const file = "/home/cloudbot/Desktop/notes.txt"
	sc := &scene{
		user: m.user, t: m.t, id: m.id, model: m.fake, xdotool: true, view: v, out: filepath.Join(m.out, "xfce"),
		page: servePage(m.t, m.net.listen(m.t, "127.0.0.1:0")),
		edit: "mkdir -p ~/Desktop; touch " + file + "; setsid -f " + editor + " " + file + " >/dev/null 2>&1",
		save: []use{{"computer", `{"action":"key","text":"ctrl+s"}`}},
		read: func() string { text, _ := m.inside.sh("cat " + file); return text },
	}
	m.inside.must("DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends x11-utils")
	sc.start = func(command string) {
		m.inside.must("setsid -f runuser -u cloudbot -- env HOME=/home/cloudbot DISPLAY=:99 XAUTHORITY=/run/cloudbot/desktop/xauthority " +
			command + " </dev/null >/tmp/record 2>&1")
	}
	sc.recorded = func() string { text, _ := m.inside.sh("cat /tmp/record"); return text }
	sc.processes = func() string {
		text, _ := m.inside.sh("ps -U cloudbot -o args; journalctl -u cloudbot-openclaw -n 40")
		return text
	}
	sc.worksOnTheDesktop()
}

// sessionBus checks that the agent reaches the programs of the desktop's session.
func (m *story) sessionBus() {
	m.t.Helper()
	m.inside.must("runuser -u cloudbot -- dbus-send --bus=unix:path=/run/cloudbot/session/bus --print-reply " +
		"--dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames | grep -qi xfce")
}
