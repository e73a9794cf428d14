// Command cloudbot-guest is the control plane's program on each CloudBot machine. It reads one configuration file, enrols
// with the control plane and keeps a tunnel to it. See package guest.
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

const usage = `cloudbot-guest runs on each CloudBot machine and connects it to the control plane.

It enrols with the control plane once, with the token in its configuration, and then
keeps one outbound connection open. The control plane reaches the machine's desktop
(VNC) and its AI agent (the OpenClaw gateway) over that connection; the machine
listens only on loopback. API keys arrive over the connection and stay in memory.

Usage:
  cloudbot-guest -config FILE [-control-plane URL] [-boot ID]
  cloudbot-guest bake -help            make an image of a machine
  cloudbot-guest gate -help            the agent's X display
  cloudbot-guest hold -config FILE     run a guest on a computer shared by several machines; ends
                                       when no process of the machine is left

Flags:
  -config FILE         configuration file, JSON (see below); required
  -control-plane URL   use this URL instead of the one in the file
  -boot ID             use this boot id instead of the kernel's, if several machines share one kernel
  -version             print the version and exit
  -help                print this and exit

The configuration file:
  {
    "control_plane_url": "https://cloud.example.org",
    "instance": "01J…",                id of the instance this machine belongs to
    "token": "…",                      enrolment token, single use
    "state_dir": "state",              folder of the machine's key and home; relative to this file
    "user": "cloudbot",                user of desktop and agent if the guest is root
    "desktop": {"kind": "auto",        auto, x11 or built-in
                "display": 0,          X display, 0 for a free one
                "port": 0,             loopback port of the VNC server, 0 for a free one
                "geometry": "1280x800",
                "session": []},        command of the session; none: openbox and xterm
    "agent": {"kind": "auto",          auto, openclaw or stand-in
              "command": "openclaw",
              "port": 0},              loopback port of OpenClaw, 0 for a free one
    "install": false,                  true: set up this computer as a machine, as root: user, XFCE,
                                       VNC, Node, OpenClaw and the apps, with systemd units
    "apps": ["browser", …],            with install: any of browser, editor, office; omitted: all
    "assets": {"openclaw.tgz": "…"},   with install: sha256 by name; omitted: as published beside it
    "sudo": "on",                      with install: the user can become root; off: cannot, from the next boot
    "openclaw_url": "…"                with install: OpenClaw if the control plane has none, https; omitted: npm
  }

It logs to standard error. SIGINT or SIGTERM ends it and all its child processes.
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
	if len(args) > 0 && args[0] == "gate" {
		return relay(ctx, args[1:])
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

// lockFile is the descriptor that shows a control plane that a machine on its own computer lives.
const lockFile = 3

// share runs the commands hold and end, which a control plane uses for machines on its own computer.
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

// number returns the program's version: the linker's, else the commit it was built from.
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
