package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/agent"
	"github.com/cloudbot-ai/control-plane/guest/install"
)

// Agent is the AI agent of local machines. The zero value is the guest's built-in stand-in.
type Agent struct {
	Command string // absolute path of the program openclaw; "": the stand-in
	Version string // of OpenClaw; "": unknown
	Node    string // version of the Node it runs on
}

// ErrNoAgent says that this computer has no OpenClaw.
var ErrNoAgent = errors.New("OpenClaw is not installed")

// agentProgram is where deploy/agent.sh leaves the program in a place of its choice.
const agentProgram = "current/bin/openclaw"

// FindAgent returns the agent that machines of this computer get. choice is "stand-in", the path of the program openclaw, or
// "", which selects what deploy/agent.sh installed in one of places, else the program in the PATH. With an error, it is the
// stand-in.
func FindAgent(choice string, places ...string) (Agent, error) {
	switch {
	case choice == agent.StandIn:
		return Agent{}, nil
	case choice != "":
		return inspect(choice)
	}
	var why error
	for _, place := range places {
		a, err := inspect(filepath.Join(place, agentProgram))
		if err == nil {
			return a, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			why = errors.Join(why, err)
		}
	}
	if path, err := exec.LookPath("openclaw"); err == nil {
		a, err := inspect(path)
		if err == nil {
			return a, nil
		}
		why = errors.Join(why, err)
	}
	if why == nil {
		why = ErrNoAgent
	}
	return Agent{}, why
}

// inspect returns the agent whose program is at path. Each of its versions has a folder of its own, which path may lead to
// through a link: a running machine keeps its version.
func inspect(path string) (Agent, error) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return Agent{}, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return Agent{}, err
	}
	a := Agent{Command: filepath.Join(dir, filepath.Base(path))}
	if _, err := exec.LookPath(a.Command); err != nil {
		return Agent{}, err
	}
	if os.Geteuid() == 0 && !OthersRead(a.Command) {
		return Agent{}, fmt.Errorf("%s is not readable by the desktops' users", a.Command)
	}
	a.Version = versionOf(a.Command)
	node := filepath.Join(dir, "node")
	if _, err := exec.LookPath(node); err != nil {
		if node, err = exec.LookPath("node"); err != nil {
			return Agent{}, fmt.Errorf("%s needs Node, which is not installed", a.Command)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ask := exec.CommandContext(ctx, node, "--version")
	ask.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := ask.Output()
	if err != nil {
		return Agent{}, fmt.Errorf("run %s: %w", node, err)
	}
	a.Node = strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
	if !install.GoodNode(a.Node) {
		return Agent{}, fmt.Errorf("%s has Node %s and needs 24.16 or newer of 24, or 26.1 or newer", a.Command, a.Node)
	}
	return a, nil
}

// versionOf reads the version from the package that the program is part of; "": it is in none.
func versionOf(program string) string {
	file, err := filepath.EvalSymlinks(program)
	if err != nil {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "package.json"))
	var about struct{ Version string }
	if err != nil || json.Unmarshal(text, &about) != nil {
		return ""
	}
	return about.Version
}

// config is the agent's part of a guest's configuration. If the program is gone when the guest starts, the guest uses its
// stand-in.
func (a Agent) config() map[string]any {
	if a.Command == "" {
		return map[string]any{"kind": agent.StandIn}
	}
	return map[string]any{"kind": agent.Auto, "command": a.Command}
}

// Lacks lists what the agent needs to work on a desktop and this computer does not have: libraries of its driver, and
// programs.
func (a Agent) Lacks() []string {
	lacks := []string{}
	for _, library := range []string{"libX11.so.6", "libXi.so.6", "libxkbcommon.so.0"} {
		if !anyFile("/lib/"+library, "/usr/lib/"+library, "/lib64/"+library, "/usr/lib64/"+library, "/lib/*-linux-*/"+library, "/usr/lib/*-linux-*/"+library) {
			lacks = append(lacks, library)
		}
	}
	for _, program := range []string{"xclip", "scrot"} {
		if _, err := exec.LookPath(program); err != nil {
			lacks = append(lacks, program)
		}
	}
	if !anyFile("/usr/libexec/at-spi*", "/usr/lib/at-spi2-core/*", "/usr/lib/*/at-spi2-core/*") {
		lacks = append(lacks, "at-spi2-core")
	}
	return lacks
}

func anyFile(patterns ...string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		found, err := filepath.Glob(p)
		return err == nil && len(found) > 0
	})
}
