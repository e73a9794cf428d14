package install

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// plugged lists the providers that OpenClaw supports only through a plug-in. Without it their keys have no effect.
var plugged = []string{"deepseek", "groq", "mistral"}

// installPlugins makes OpenClaw install them as the machine's user, so that OpenClaw has its own record of them. A
// plug-in that is not published is only reported as missing: a retry would not help.
func installPlugins(ctx context.Context, i *Installer) (string, error) {
	for _, provider := range plugged {
		var said strings.Builder
		err := i.c.run(ctx, Command{
			Path: "runuser", Args: []string{"-u", User, "--", openClaw, "plugins", "install", plugin(provider), "--pin", "--force"},
			Env: []string{"OPENCLAW_STATE_DIR=" + home + "/.openclaw"}, Out: io.MultiWriter(&said, i.c.Output),
		})
		if err != nil && !strings.Contains(said.String(), "not found on npm") {
			return "", fmt.Errorf("%s: %w", plugin(provider), err) // skips the others: the agent waits for this step
		}
	}
	lacks := i.Lacks()
	if len(lacks) == 0 {
		return strings.Join(plugged, ", "), nil
	}
	for _, provider := range lacks {
		i.log.Warn("plug-in of a provider missing on npm, its API keys have no effect unless OpenClaw finds it elsewhere",
			"provider", provider, "plugin", plugin(provider))
	}
	return "without " + strings.Join(lacks, ", ") + ": npm has no plug-in for them, so their API keys have no effect", nil
}

func plugin(provider string) string {
	return "npm:@openclaw/" + provider + "-provider@" + PluginVersion()
}

// Lacks lists the providers whose plug-in is missing. It looks at the files, because OpenClaw also installs some itself.
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
