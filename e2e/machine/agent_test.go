package machine

import (
	"encoding/json"
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
	m.inside.must("grep -qz ^DISPLAY=:99 /proc/$(systemctl show -p MainPID --value cloudbot-openclaw)/environ")
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

// agentSeesTheDesktop has the model take a picture of the desktop, from a chat through the bridge.
func (m *story) agentSeesTheDesktop() {
	m.t.Helper()
	if !m.real {
		return
	}
	began := time.Now()
	_, text, err := m.chat(m.id, "run-look", "look: say:run-look:")
	if err != nil || !strings.Contains(text, "You said run-look") || m.fake.seen() == 0 {
		m.t.Fatalf("chat: got %q, %v, %d pictures, want an answer after one picture of the desktop\n%s",
			text, err, m.fake.seen(), m.must(200, "GET", "/api/instances/"+m.id+"/debug/log", ""))
	}
	m.t.Logf("the agent saw the desktop after %.1fs", time.Since(began).Seconds())
}

// sessionBus checks that the agent reaches the programs of the desktop's session.
func (m *story) sessionBus() {
	m.t.Helper()
	m.inside.must("runuser -u cloudbot -- dbus-send --bus=unix:path=/run/cloudbot/session/bus --print-reply " +
		"--dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames | grep -qi xfce")
}
