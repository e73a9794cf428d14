package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// prefix is where Node, where the distribution's is too old, and OpenClaw are installed.
const prefix = "/opt/cloudbot"

const (
	openClaw      = prefix + "/bin/openclaw"
	openClawFile  = prefix + "/openclaw.tgz"
	operatorsFile = "/etc/cloudbot/openclaw.json" // OpenClaw's configuration as the image's maker wants it
)

// Node's and npm's releases where no vendor's package is to be had.
const (
	npmNode = "node@26.10.0"
	npmNPM  = "npm@11"
)

var nodeSource = vendor{
	name: "nodesource", key: "https://deb.nodesource.com/gpgkey/nodesource-repo.gpg.key",
	source: "deb %s https://deb.nodesource.com/node_24.x nodistro main", arch: []string{"amd64", "arm64"},
}

// installNode brings a Node that OpenClaw runs on: the vendor's, else npm's package of it.
func installNode(ctx context.Context, i *Installer) (string, error) {
	if v := i.output(ctx, "node", "--version"); goodNode(v) {
		return "Node " + v + ", as found", nil
	}
	err := i.addVendor(ctx, nodeSource)
	if err == nil {
		if err = i.aptInstall(ctx, "nodejs"); err == nil {
			if v := i.output(ctx, "node", "--version"); goodNode(v) {
				return "Node " + v + " of NodeSource", nil
			}
		}
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, errLocked): // says nothing about the vendor
		return "", err
	case err == nil:
		err = errors.New("NodeSource's is too old")
	}
	why := reason(err)
	i.log.Warn("no Node from its vendor, taking npm's", "err", err)
	if err := i.aptInstall(ctx, "ca-certificates", "npm", "libatomic1"); err != nil {
		return "", err
	}
	// One after the other: the distribution's Node is too old for the newer npm.
	if err := errors.Join(i.npm(ctx, npmNode), i.npm(ctx, npmNPM)); err != nil {
		return "", err
	}
	v := i.output(ctx, prefix+"/bin/node", "--version")
	if !goodNode(v) {
		return "", fmt.Errorf("npm's %s says that it is version %q", npmNode, v)
	}
	return "Node " + v + " of npm, as " + why, nil
}

// goodNode admits 24.16 and later of 24, and 26.1 and later: what OpenClaw asks for.
func goodNode(version string) bool {
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return errors.Join(err1, err2) == nil && (a == 24 && b >= 16 || a == 26 && b >= 1 || a > 26)
}

// npm installs packages for all users, with what it needs to build them left to the packages themselves.
func (i *Installer) npm(ctx context.Context, packages ...string) error {
	if err := os.MkdirAll(i.path(prefix), 0o755); err != nil {
		return err
	}
	args := []string{
		"install", "--global", "--prefix", prefix, "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel", "warn",
		"--fetch-retries", "5", "--fetch-timeout", "60000",
		"--allow-scripts=openclaw", // newer npm runs no package's own scripts unasked; the others do without
	}
	return i.c.run(ctx, Command{Path: "npm", Args: append(args, packages...), Env: []string{"NODE_OPTIONS=--max-old-space-size=1536"}})
}

// installOpenClaw takes the control plane's package, else the one at a given address, else npm's.
func installOpenClaw(ctx context.Context, i *Installer) (string, error) {
	from := "the control plane's package"
	err := i.asset(ctx, "openclaw.tgz", openClawFile, 0o644)
	if errors.Is(err, errNone) && i.c.OpenClawURL != "" {
		from = "the package at the address configured"
		err = i.elsewhere(ctx, "openclaw.tgz", i.c.OpenClawURL, openClawFile, 0o644)
	}
	what := openClawFile
	switch {
	case errors.Is(err, errNone):
		from, what = "npm", "openclaw@"+OpenClawVersion
	case errors.Is(err, errOpen):
		from, what = "npm, as "+err.Error(), "openclaw@"+OpenClawVersion
		i.log.Warn("OpenClaw's package is refused: give MOLTBOT_TARBALL_URL with https; taking npm's", "err", err)
	case err != nil:
		return "", err
	}
	if err := i.npm(ctx, what); err != nil {
		return "", err
	}
	os.Remove(i.path(openClawFile))
	v := i.output(ctx, openClaw, "--version")
	if v == "" {
		return "", errors.New("OpenClaw is installed but does not tell its version")
	}
	return versionOf(v) + " from " + from, nil
}

// versionOf finds the version in what a program says of itself.
func versionOf(text string) string {
	for _, word := range strings.Fields(text) {
		if w := strings.Trim(word, "v(),"); len(w) > 0 && w[0] >= '0' && w[0] <= '9' && strings.Contains(w, ".") {
			return w
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// openClawConfig keeps the agent from spending money on an idle machine, and its files together.
const openClawConfig = `{
  "agents": {
    "defaults": {
      "workspace": "` + home + `/workspace",
      "heartbeat": { "every": "0m" }
    }
  }
}
`

// makeWorkspace makes the agent's folders. What is there already is the user's.
func makeWorkspace(ctx context.Context, i *Installer) (string, error) {
	config := []byte(openClawConfig)
	if text, err := os.ReadFile(i.path(operatorsFile)); err == nil {
		config = text
	}
	file := home + "/.openclaw/openclaw.json"
	if _, err := os.Stat(i.path(file)); err != nil {
		if err := i.put(file, config, 0o600); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(i.path(home+"/workspace"), 0o755); err != nil {
		return "", err
	}
	if err := os.Chmod(i.path(home+"/.openclaw"), 0o700); err != nil {
		return "", err
	}
	return "", i.command(ctx, "chown", "-R", User+":", home+"/.openclaw", home+"/workspace")
}
