package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"github.com/cloudbot-ai/control-plane/guest/gate"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

const gateUsage = `cloudbot-guest gate relays an X display for the agent's programs. While the user has mouse and keyboard, it
refuses their input. It runs as a systemd unit on machines; other guests have their gate inside.

Usage:
  cloudbot-guest gate -display N -number M -auth FILE -held FILE

Flags:
  -display N    the real display
  -number M     the display to serve
  -auth FILE    file with the real display's cookie
  -held FILE    file that says until when input is refused
  -help         print this and exit
`

func relay(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("cloudbot-guest gate", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, gateUsage) }
	display := flags.Int("display", -1, "")
	number := flags.Int("number", 0, "")
	auth := flags.String("auth", "", "")
	held := flags.String("held", "", "")
	if err := flags.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return 0
		}
		return 2
	}
	if *display < 0 || *number <= 0 || *auth == "" || *held == "" || flags.NArg() > 0 {
		flags.Usage()
		return 2
	}
	g, err := gate.Listen(gate.Config{
		Display: *display, Number: *number, Auth: *auth, File: &gate.File{Path: *held, Max: wire.ControlFor},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err == nil {
		err = g.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cloudbot-guest:", err)
		return 1
	}
	return 0
}
