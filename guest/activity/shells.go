package activity

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Shells looks at the terminals of a machine. It is used by one goroutine at a time.
type Shells struct {
	// Agent is the systemd unit of the agent; "": none.
	Agent string
	// Mark is an environment variable with its value that all processes of this machine started with; "": every process of
	// this computer belongs to the machine.
	Mark string
	// Root is where the kernel's files are; "": /proc.
	Root string

	known map[terminal]syscall.Timespec // when each was last read; nil: none was looked at
}

// terminal is the first process of a session.
type terminal struct {
	pid     int
	started string
}

// agentVariable begins the names of the variables that the agent's gateway and all its programs have.
const agentVariable = "OPENCLAW_"

const maxParents = 64 // of a process that are looked at

var (
	shells = []string{"sh", "bash", "dash", "zsh", "fish", "ksh", "mksh", "tcsh", "csh", "ash", "nu", "pwsh", "elvish", "xonsh"}
	// wrappers only carry another terminal, or change the user of a shell.
	wrappers = []string{"su", "sudo", "doas", "login", "newgrp", "script", "screen", "tmux: client", "runuser", "machinectl"}
	// optionsWithFile are options of a shell that have an argument.
	optionsWithFile = []string{"--rcfile", "--init-file", "-o", "+o", "-O", "+O", "--rc-file"}
)

// Seen is what a look at the terminals showed.
type Seen struct {
	Typed bool // something read input since the last look, or a shell is new: its user is there
	Works bool // a program is in the foreground of a shell, which its user may have forgotten
}

// Look looks at the terminals.
func (s *Shells) Look() (seen Seen, err error) {
	root := s.Root
	if root == "" {
		root = "/proc"
	}
	all, err := processes(root)
	if err != nil {
		return seen, err
	}
	known := map[terminal]syscall.Timespec{}
	for _, p := range all {
		if p.pid != p.session || p.tty == 0 || p.zombie || !waits(p) || !s.mine(p) || s.agents(p, all) {
			continue
		}
		seen.Works = seen.Works || works(p, all)
		at, err := p.read()
		if err != nil {
			continue
		}
		t := terminal{p.pid, p.started}
		before, old := s.known[t]
		if old && at != before || !old && s.known != nil {
			seen.Typed = true
		}
		known[t] = at
	}
	s.known = known
	return seen, nil
}

// isShell reports whether the process is a shell that reads commands from its terminal.
func isShell(p process) bool {
	args := p.args()
	if len(args) == 0 || !slices.Contains(shells, strings.TrimPrefix(filepath.Base(args[0]), "-")) && !slices.Contains(shells, p.name) {
		return false
	}
	for i := 1; i < len(args); i++ {
		a := args[i]
		switch {
		case slices.Contains(optionsWithFile, a):
			i++
		case strings.HasPrefix(a, "--"), strings.HasPrefix(a, "+"):
		case strings.HasPrefix(a, "-"):
			if strings.Contains(a, "c") { // -c, also with others, as in -lc
				return false
			}
		default: // a script
			return false
		}
	}
	return true
}

// mine reports whether the process belongs to this machine.
func (s *Shells) mine(p process) bool {
	return s.Mark == "" || p.has(s.Mark)
}

// agents reports whether the agent started the process, itself or through others.
func (s *Shells) agents(p process, all map[int]process) bool {
	for range maxParents {
		if p.has(agentVariable) || s.Agent != "" && p.within(s.Agent) {
			return true
		}
		parent, ok := all[p.parent]
		if !ok {
			return false
		}
		p = parent
	}
	return false
}

// works reports whether a program is in the foreground of the terminal of a session: anything but what waits.
func works(leader process, all map[int]process) bool {
	for _, p := range all {
		if p.group == leader.foreground && p.session == leader.session && !p.zombie && !p.stopped && !waits(p) {
			return true
		}
	}
	return false
}

// waits reports whether the process is a shell that reads commands, or only carries another terminal.
func waits(p process) bool { return slices.Contains(wrappers, p.name) || isShell(p) }
