package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/cloudbot-ai/control-plane/guest/install"
)

const bakeUsage = `cloudbot-guest bake prepares this computer to be an image of CloudBot machines: it installs everything
that a machine needs, and removes what belongs to one machine alone. Run it as root on a new Debian or
Ubuntu, then take the image. A machine launched from the image starts with its desktop immediately.

Usage:
  cloudbot-guest bake -control-plane URL [-openclaw-url URL] [-openclaw-sha256 SUM] [-apps browser,editor,office]

Flags:
  -control-plane URL   download OpenClaw and the wallpaper from its /assets/; required
  -openclaw-url URL    OpenClaw's package if the control plane has none, https (default: npm)
  -openclaw-sha256 SUM sha256 of the package, unless it is npm's (default: as published beside it in /assets/)
  -apps LIST           any of browser, editor and office (default: all)
  -help                print this and exit

Exit status: 0 if everything is installed, 1 after a failure, 2 for wrong arguments.
`

func bake(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("cloudbot-guest bake", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, bakeUsage) }
	url := flags.String("control-plane", "", "")
	tarball := flags.String("openclaw-url", "", "")
	sum := flags.String("openclaw-sha256", "", "")
	apps := flags.String("apps", "", "")
	if err := flags.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return 0
		}
		return 2
	}
	if *url == "" || flags.NArg() > 0 {
		flags.Usage()
		return 2
	}
	c := install.Config{
		ControlPlaneURL: strings.TrimSuffix(*url, "/"), OpenClawURL: *tarball,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Output: os.Stderr,
	}
	if *sum != "" {
		c.Pins = map[string]string{"openclaw.tgz": strings.ToLower(*sum)}
	}
	if *apps != "" {
		c.Apps = strings.Split(*apps, ",")
	}
	if err := install.Bake(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "cloudbot-guest:", err)
		return 1
	}
	return 0
}
