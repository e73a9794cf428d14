package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// prefix is the folder of OpenClaw, and of Node if the distribution's is too old.
const prefix = "/opt/cloudbot"

const (
	openClaw      = prefix + "/bin/openclaw"
	openClawFile  = prefix + "/openclaw.tgz"
	operatorsFile = "/etc/cloudbot/openclaw.json" // OpenClaw's configuration by the maker of the image
)

var nodeSource = vendor{
	name: "nodesource", key: "https://deb.nodesource.com/gpgkey/nodesource-repo.gpg.key",
	source: "deb %s https://deb.nodesource.com/node_24.x nodistro main", arch: []string{"amd64", "arm64"},
}

// installNode installs a Node that OpenClaw runs on: NodeSource's, else npm's package of it.
func installNode(ctx context.Context, i *Installer) (string, error) {
	if v := i.output(ctx, "node", "--version"); GoodNode(v) {
		return "Node " + v + ", as found", nil
	}
	err := i.addVendor(ctx, nodeSource)
	if err == nil {
		if err = i.aptInstall(ctx, "nodejs"); err == nil {
			if v := i.output(ctx, "node", "--version"); GoodNode(v) {
				return "Node " + v + " of NodeSource", nil
			}
		}
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, errLocked): // not the vendor's fault
		return "", err
	case err == nil:
		err = errors.New("NodeSource's is too old")
	}
	why := reason(err)
	i.log.Warn("NodeSource unavailable, installing Node from npm", "err", err)
	if err := i.aptInstall(ctx, "ca-certificates", "npm", "libatomic1"); err != nil {
		return "", err
	}
	// Node first: the distribution's Node is too old for the newer npm.
	if err := errors.Join(i.npm(ctx, "node@"+pinned("node")), i.npm(ctx, "npm@"+pinned("npm"))); err != nil {
		return "", err
	}
	v := i.output(ctx, prefix+"/bin/node", "--version")
	if !GoodNode(v) {
		return "", fmt.Errorf("npm's Node %s reports version %q, which is too old", pinned("node"), v)
	}
	return "Node " + v + " of npm, as " + why, nil
}

// GoodNode accepts the versions that OpenClaw requires: 24.16 and later of 24, and 26.1 and later.
func GoodNode(version string) bool {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return errors.Join(err1, err2) == nil && (a == 24 && b >= 16 || a == 26 && b >= 1 || a > 26)
}

// npm installs packages for all users.
func (i *Installer) npm(ctx context.Context, what ...string) error {
	if err := os.MkdirAll(i.path(prefix), 0o755); err != nil {
		return err
	}
	args := []string{
		"install", "--global", "--prefix", prefix, "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel", "warn",
		"--fetch-retries", "5", "--fetch-timeout", "60000",
	}
	return i.c.run(ctx, Command{Path: "npm", Args: append(args, what...), Env: []string{"NODE_OPTIONS=--max-old-space-size=1536"}})
}

// installOpenClaw installs the control plane's package, else the one at the configured URL, else npm's.
func installOpenClaw(ctx context.Context, i *Installer) (string, error) {
	from := "the control plane's package"
	err := i.asset(ctx, "openclaw.tgz", openClawFile, 0o644)
	if errors.Is(err, errNone) && i.c.OpenClawURL != "" {
		from = "the package at the configured URL"
		err = i.elsewhere(ctx, "openclaw.tgz", i.c.OpenClawURL, openClawFile, 0o644)
	}
	what := openClawFile
	switch {
	case errors.Is(err, errNone):
		from, what = "npm", "openclaw@"+OpenClawVersion()
	case errors.Is(err, errOpen):
		from, what = "npm, as "+err.Error(), "openclaw@"+OpenClawVersion()
		i.log.Warn("OpenClaw package refused, installing it from npm; set MOLTBOT_TARBALL_URL to an https URL", "err", err)
	case err != nil:
		return "", err
	}
	// Newer npm runs only the scripts of packages named here. The flag would make Node's own script fail.
	if err := i.npm(ctx, "--allow-scripts=openclaw", what); err != nil {
		return "", err
	}
	os.Remove(i.path(openClawFile))
	v := i.output(ctx, openClaw, "--version")
	if v == "" {
		return "", errors.New("OpenClaw is installed but does not print its version")
	}
	return versionOf(v) + " from " + from, nil
}

// versionOf returns the version in a program's output.
func versionOf(text string) string {
	for _, word := range strings.Fields(text) {
		if w := strings.Trim(word, "v(),"); len(w) > 0 && w[0] >= '0' && w[0] <= '9' && strings.Contains(w, ".") {
			return w
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// makeWorkspace creates the agent's folders. It leaves existing files alone: they are the user's. The guest adds its own
// settings to the configuration when it starts the agent.
func makeWorkspace(ctx context.Context, i *Installer) (string, error) {
	err := errors.Join(os.MkdirAll(i.path(home+"/.openclaw"), 0o700), os.MkdirAll(i.path(home+"/workspace"), 0o755))
	if err != nil {
		return "", err
	}
	file := home + "/.openclaw/openclaw.json"
	if config, err := os.ReadFile(i.path(operatorsFile)); err == nil {
		if _, err := os.Stat(i.path(file)); err != nil {
			if err := i.put(file, config, 0o600); err != nil {
				return "", err
			}
		}
	}
	if err := os.Chmod(i.path(home+"/.openclaw"), 0o700); err != nil {
		return "", err
	}
	return "", i.command(ctx, "chown", "-R", User+":", home+"/.openclaw", home+"/workspace")
}
