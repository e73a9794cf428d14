package desktop

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/clipboard"
	"github.com/cloudbot-ai/control-plane/guest/gate"
	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// maxClipboard is the longest text that a viewer may paste, in bytes of UTF-8. Xvnc counts it with CRLF and a NUL.
const maxClipboard = clipboard.Max

// runX starts the X server, the VNC server and the session. It returns when one of the first two or ctx ends, after all
// of them have ended. A viewer gets copied text, but not text that was only selected (SendPrimary): selecting a text to
// replace it must not change the clipboard.
func (d *Desktop) runX(ctx context.Context) error {
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel(nil)
	start := func(vital bool, c proc.Child) {
		all.Add(1)
		go func() {
			defer all.Done()
			err := proc.Run(ctx, c, nil)
			if vital {
				cancel(err)
			} else if ctx.Err() == nil {
				d.log.Info("desktop program ended", "err", err)
			}
		}()
	}

	cookie := make([]byte, 16)
	rand.Read(cookie)
	auth, err := d.write("xauthority", Xauthority(cookie))
	if err != nil {
		return err
	}
	port := d.c.Port
	if port == 0 {
		if port, err = freePort(); err != nil {
			return err
		}
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	env := append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.c.Home, "XAUTHORITY=" + auth,
		"SHELL=/bin/bash", "LANG=C.UTF-8",
	}, d.c.Env...)
	uid := os.Getuid()
	if d.c.User != nil {
		uid = int(d.c.User.UID)
		env = append(env, "USER="+d.c.User.Name, "LOGNAME="+d.c.User.Name)
	}
	env = append(env, prompt(ctx, uid)...)
	child := func(path string, args ...string) proc.Child {
		return proc.Child{Path: path, Args: args, Env: env, Dir: d.c.Home, User: d.c.User, Output: d.c.Output}
	}

	// The server chooses a free display itself and writes its number, so no other program can take it in between.
	announced, announce, err := os.Pipe()
	if err != nil {
		return err
	}
	defer announced.Close()
	// noreset: the settings of the screen must survive the end of the last program.
	args := []string{"-nolisten", "tcp", "-auth", auth, "-displayfd", "3", "-noreset"}
	// A server that comes back takes its old display, which the agent uses; if another program has it now, this start fails
	// and the next one takes a free one.
	if n := cmp.Or(d.c.Display, d.number); n != 0 {
		args = append([]string{display(n)}, args...)
	}
	d.number = 0
	var server proc.Child
	if d.x.xvnc != "" {
		pass, err := d.write("vnc", rfb.Obscure(d.c.Password))
		if err != nil {
			announce.Close()
			return err
		}
		server = child(d.x.xvnc, append(args, "-geometry", d.c.Geometry, "-depth", "24", "-rfbport", strconv.Itoa(port),
			"-localhost", "-SecurityTypes", "VncAuth", "-PasswordFile", pass, "-AlwaysShared",
			"-MaxCutText", strconv.Itoa(2*maxClipboard+1), "-SendPrimary=0",
			// Checks whether it answers, without a log-in, must not count as password guessing.
			"-BlacklistThreshold=1000000000")...)
	} else {
		server = child(d.x.xvfb, append(args, "-screen", "0", d.c.Geometry+"x24")...)
	}
	server.Files = []*os.File{announce}
	start(true, server)
	number, err := readDisplay(ctx, announced)
	if err != nil {
		return err
	}
	d.number = number
	env = append(env, "DISPLAY="+display(number))
	agents, agentsEnded, err := d.openGate(outer, number, auth)
	if err != nil {
		return fmt.Errorf("open a display for the agent: %w", err)
	}
	d.setEnv(map[string]string{"DISPLAY": display(agents.Number()), "XAUTHORITY": auth})
	if d.x.xvnc == "" {
		d.keys.Inject()
		d.pastes.Use(number, auth)
		defer d.pastes.Close()
	}
	d.keys.Use(number, auth)
	defer d.keys.Close()
	if d.x.xvnc != "" && d.c.LongCopy != nil {
		all.Go(func() { Copies(ctx, number, auth, func() bool { return true }, d.c.LongCopy, d.log) })
	}

	if d.x.xvnc == "" {
		pass, err := d.write("vnc", []byte(d.c.Password+"\n"))
		if err != nil {
			return err
		}
		// rm: the program removes the file after reading it.
		start(true, child(d.x.x11vnc, "-display", display(number), "-auth", auth, "-rfbport", strconv.Itoa(port), "-no6",
			"-localhost", "-forever", "-shared", "-passwdfile", "rm:"+pass, "-quiet", "-nodpms", "-noxrecord", "-noprimary",
			"-wait", "15", "-defer", "10"))
	}
	if len(d.c.Session) == 0 {
		all.Go(func() { wallpaper(ctx, number, auth, d.log) })
	}
	all.Go(func() { d.board.Show(ctx, number, auth, nil, d.log) })
	d.session(start, child)
	if err := answers(ctx, addr); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	d.addr.Store(&addr)
	select {
	case <-d.up:
	default:
		close(d.up)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-agentsEnded:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.gateEnded = nil
		return fmt.Errorf("the agent's display ended: %w", err)
	}
}

// openGate gives the agent a display that lasts as long as ctx: the agent restarts if its display changes, so it must not be
// free for another program while the X server restarts. ended gets the error of a gate that ends earlier.
func (d *Desktop) openGate(ctx context.Context, number int, auth string) (agents *gate.Gate, ended <-chan error, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gateEnded != nil {
		d.gate.Use(number)
		return d.gate, d.gateEnded, nil
	}
	c := gate.Config{Display: number, Auth: auth, Logger: d.log}
	if d.c.User != nil {
		c.Users = []int{int(d.c.User.UID)}
	}
	g, err := gate.Listen(c)
	if err != nil {
		return nil, nil, err
	}
	if d.gate != nil {
		g.Hold(d.gate.Held())
	}
	d.gate, d.gateEnded = g, make(chan error, 1)
	d.gates.Go(func() { d.gateEnded <- g.Run(ctx) })
	return g, d.gateEnded, nil
}

// prompt returns the setting with which bash names a user that has no name: a local machine's user may be only a number, and
// bash would greet it with "I have no name!".
func prompt(ctx context.Context, uid int) []string {
	// Not os/user: for this process's own user it believes the variable USER.
	var none *exec.ExitError
	if err := exec.CommandContext(ctx, "id", "-un", strconv.Itoa(uid)).Run(); !errors.As(err, &none) {
		return nil
	}
	return []string{`PROMPT_COMMAND=PS1=${PS1//\\u/cloudbot}`}
}

// readDisplay reads the number that the server writes when it accepts connections.
func readDisplay(ctx context.Context, announced *os.File) (int, error) {
	stop := context.AfterFunc(ctx, func() { announced.Close() })
	defer stop()
	_ = announced.SetReadDeadline(time.Now().Add(15 * time.Second))
	var got bytes.Buffer
	_, err := io.CopyN(&got, announced, 1)
	for err == nil && !strings.HasSuffix(got.String(), "\n") && got.Len() < 16 {
		_, err = io.CopyN(&got, announced, 1)
	}
	if err != nil {
		return 0, fmt.Errorf("start the X server: %w", errors.Join(err, context.Cause(ctx)))
	}
	return strconv.Atoi(strings.TrimSpace(got.String()))
}

// Xauthority returns an authority file with one cookie for every display.
func Xauthority(cookie []byte) []byte {
	const name = "MIT-MAGIC-COOKIE-1"
	b := []byte{0xff, 0xff, 0, 0, 0, 0} // family "wild", no address, no display number
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(cookie)))
	return append(b, cookie...)
}
