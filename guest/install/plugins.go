package install

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// PluginVersion is of the providers' plug-ins, which are published apart from OpenClaw: the latest that
// goes with OpenClawVersion.
const PluginVersion = "2026.9.5"

// plugged are the providers that OpenClaw knows by a plug-in alone. Without it a key has no effect.
var plugged = []string{"deepseek", "groq", "mistral"}

// installPlugins has OpenClaw install them as the machine's user, so that it keeps the record of them itself.
// One that is not published holds nobody up and is said to be missing: to try again would not bring it.
func installPlugins(ctx context.Context, i *Installer) (string, error) {
	for _, provider := range plugged {
		var said strings.Builder
		err := i.c.run(ctx, Command{
			Path: "runuser", Args: []string{"-u", User, "--", openClaw, "plugins", "install", plugin(provider), "--pin", "--force"},
			Env: []string{"OPENCLAW_STATE_DIR=" + home + "/.openclaw"}, Out: io.MultiWriter(&said, i.c.Output),
		})
		if err != nil && !strings.Contains(said.String(), "not found on npm") {
			return "", fmt.Errorf("%s: %w", plugin(provider), err) // not the others: the agent waits for this step
		}
	}
	lacks := i.Lacks()
	if len(lacks) == 0 {
		return strings.Join(plugged, ", "), nil
	}
	for _, provider := range lacks {
		i.log.Warn("npm has no plug-in for a provider: its API keys have no effect on this machine, unless OpenClaw finds it elsewhere",
			"provider", provider, "plugin", plugin(provider))
	}
	return "without " + strings.Join(lacks, ", ") + ": npm has no plug-in, and so API keys have no effect", nil
}

func plugin(provider string) string {
	return "npm:@openclaw/" + provider + "-provider@" + PluginVersion
}

// Lacks lists the providers whose plug-in is not here. It looks, as OpenClaw also installs some itself.
func (i *Installer) Lacks() []string {
	lacks := []string{}
	if i.c.NoAgent { // the stand-in has no models
		return lacks
	}
	for _, provider := range plugged {
		here := false
		for _, place := range []string{"npm/projects/*/node_modules/@openclaw/" + provider + "-provider", "extensions/" + provider} {
			found, _ := filepath.Glob(i.path(home + "/.openclaw/" + place))
			here = here || len(found) > 0
		}
		if !here {
			lacks = append(lacks, provider)
		}
	}
	return lacks
}
