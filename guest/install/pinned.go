package install

import (
	_ "embed"
	"strings"
)

// pinnedText is shared with deploy/agent.sh, so that a computer of a developer gets what machines get.
//
//go:embed pinned
var pinnedText string

// pinned returns a value of the file pinned; "": it has none of that name.
func pinned(name string) string {
	for line := range strings.Lines(pinnedText) {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// OpenClawVersion is installed from npm if the control plane has no package.
func OpenClawVersion() string { return pinned("openclaw") }

// PluginVersion is the version of the providers' plug-ins.
func PluginVersion() string { return pinned("plugins") }
