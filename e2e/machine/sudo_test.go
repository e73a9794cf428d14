package machine

import (
	"time"
)

// userIsRoot checks that the machine's user and agent have sudo, and that an operator can take it away.
func (m *story) userIsRoot() {
	m.t.Helper()
	const asUser = "runuser -u cloudbot -- sudo -n id -u"
	m.inside.must(asUser + " | grep -qx 0 && visudo -c -q")
	m.inside.must("test $(stat -c '%a:%U' /etc/sudoers.d/90-cloudbot) = 440:root")
	m.inside.must("test $(systemctl show -p NoNewPrivileges --value cloudbot-openclaw) = no")
	if m.real {
		m.inside.must("grep -q 'NoNewPrivs:.0' /proc/$(systemctl show -p MainPID --value cloudbot-openclaw)/status")
	}
	set := func(from, to string) {
		m.inside.must("sed -i 's/" + from + "/" + to + "/' /etc/cloudbot/guest.json && systemctl restart cloudbot-guest")
	}
	await(m.t, 3*time.Minute, "the installation's end", func() bool { // the guest must not be restarted amid it
		_, err := m.inside.sh(`grep -q '"tools"\|"no-agent"' /usr/local/lib/cloudbot/installed.json && grep -q '"` + m.apps[len(m.apps)-1] + `"' /usr/local/lib/cloudbot/installed.json`)
		return err == nil
	})
	set(`"install": true`, `"install": true, "sudo": "off"`)
	await(m.t, time.Minute, "sudo to be refused", func() bool {
		_, err := m.inside.sh("test ! -e /etc/sudoers.d/90-cloudbot && ! " + asUser + " && test $(systemctl show -p NoNewPrivileges --value cloudbot-openclaw) = yes")
		return err == nil
	})
	set(`, "sudo": "off"`, "")
	await(m.t, time.Minute, "sudo to be back", func() bool {
		_, err := m.inside.sh(asUser)
		return err == nil
	})
}
