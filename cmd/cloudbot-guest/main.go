// Command cloudbot-guest is the agent on each CloudBot machine. It reads one configuration file,
// enrols with the control plane and keeps a tunnel to it. See package guest.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/cloudbot-ai/control-plane/guest"
	"github.com/cloudbot-ai/control-plane/guest/hold"
)

const usage = `cloudbot-guest is the agent that runs on a CloudBot machine.

It enrols with the control plane, once, with the token in its configuration, and
then holds one outbound connection to it. Over that connection the machine's desktop
(VNC) and its AI agent (the OpenClaw gateway) are reached; nothing on the machine
listens beyond loopback. API keys arrive over the connection and stay in memory.

Usage:
  cloudbot-guest -config FILE [-control-plane URL] [-boot ID]
  cloudbot-guest bake -help            makes an image of a machine
  cloudbot-guest hold -config FILE     runs the above on a computer that machines share: it ends
                                       when no process of the machine is left

Flags:
  -config FILE         configuration, JSON (see below); needed
  -control-plane URL   use this address instead of the file's
  -boot ID             boot id instead of the kernel's, where several machines share one kernel
  -version             print the version and exit
  -help                print this and exit

The configuration file:
  {
    "control_plane_url": "https://cloud.example.org",
    "instance": "01J…",                instance this machine belongs to
    "token": "…",                      enrolment token, single use
    "state_dir": "state",              the machine's key and home; relative to this file
    "user": "cloudbot",                runs desktop and agent where the guest is root
    "desktop": {"kind": "auto",        auto, x11 or built-in
                "display": 0,          X display, 0 for a free one
                "port": 0,             loopback port of the VNC server, 0 for a free one
                "geometry": "1280x800",
                "session": []},        command of the session; none: openbox and xterm
    "agent": {"kind": "auto",          auto, openclaw or stand-in
              "command": "openclaw",
              "port": 0},              loopback port of OpenClaw, 0 for a free one
    "install": false,                  true: set this computer up as a machine, as root: user, XFCE,
                                       VNC, Node, OpenClaw and what follows, as systemd units
    "apps": ["browser", …],            with install: of browser, editor, office; left out: all
    "assets": {"openclaw.tgz": "…"},   with install: sha256 by name; else as published beside it
    "openclaw_url": "…"                with install: OpenClaw where the control plane has none, https; else npm
  }

It logs to standard error and ends with SIGINT or SIGTERM, taking all it started along.
Exit status: 0 after a signal, 1 after a failure, 2 for wrong arguments or configuration.
`

// version is set by the linker.
var version string

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if len(args) > 0 && args[0] == "bake" {
		return bake(ctx, args[1:])
	}
	if len(args) > 0 && (args[0] == "hold" || args[0] == "end") {
		return share(ctx, args)
	}
	flags := flag.NewFlagSet("cloudbot-guest", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	path := flags.String("config", "", "")
	url := flags.String("control-plane", "", "")
	boot := flags.String("boot", "", "")
	show := flags.Bool("version", false, "")
	if err := flags.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return 0
		}
		return 2
	}
	if *show {
		fmt.Println("cloudbot-guest", number())
		return 0
	}
	if *path == "" || flags.NArg() > 0 {
		flags.Usage()
		return 2
	}
	c, err := guest.Load(*path, func(c *guest.Config) {
		if *url != "" {
			c.ControlPlaneURL = *url
		}
		if *boot != "" {
			c.Boot = *boot
		}
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "cloudbot-guest:", err)
		return 2
	}
	g, err := guest.New(c, number(), os.Stderr)
	if err == nil {
		err = g.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cloudbot-guest:", err)
		return 1
	}
	return 0
}

// lockFile is the descriptor by which a control plane sees that a machine on its own computer lives.
const lockFile = 3

// share is what a control plane calls for machines on its own computer.
func share(ctx context.Context, args []string) (status int) {
	var err error
	if args[0] == "end" {
		err = hold.End()
	} else {
		status, err = hold.Run(ctx, lockFile, os.Args[0], args[1:]...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cloudbot-guest:", err)
		return 1
	}
	return status
}

// number is the program's version: the linker's, else the commit it was built from.
func number() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return "dev-" + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return "dev"
}
