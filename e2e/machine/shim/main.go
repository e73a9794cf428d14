// Command shim takes the place of the guest's program in the control plane's local cloud, and runs a real computer
// instead: a Debian root that systemd boots in a container, with its own address and with the rendered user-data for
// cloud-init, as on EC2. SIGTERM switches it off.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

// config is read from shim.json, beside the program.
type config struct {
	Base    string            // the root to start from; it is copied
	Netns   string            // path of the network namespace
	Binds   []string          // of systemd-nspawn
	Files   map[string]string // put into the root, by path
	Params  bootstrap.Params  // Instance is filled in
	Console string            // file that the console is appended to
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		os.Exit(1)
	}
}

func run() error {
	// The guest's two commands that the local cloud uses.
	flags := flag.NewFlagSet("shim", flag.ExitOnError)
	guest := flags.String("config", "", "the guest's configuration, as the local cloud writes it")
	switch args := os.Args[1:]; {
	case len(args) == 1 && args[0] == "end": // to end all processes of the machine's user: the computer's are root's
		return nil
	case len(args) > 0 && args[0] == "hold":
		_ = flags.Parse(args[1:])
	default:
		return fmt.Errorf("got arguments %q, want hold or end", args)
	}
	// The control plane starts machines as users of their own, and booting one needs root: the program is setuid.
	if err := errors.Join(syscall.Setgid(0), syscall.Setuid(0)); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var c config
	if err := readJSON(filepath.Join(filepath.Dir(self), "shim.json"), &c); err != nil {
		return err
	}
	root, err := filepath.Abs("root")
	if err != nil {
		return err
	}
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		if err := c.build(root, *guest); err != nil {
			return err
		}
	}
	return c.boot(root)
}

// build creates the computer's disk.
func (c config) build(root, guest string) error {
	var told struct{ Instance, Token string }
	if err := readJSON(guest, &told); err != nil {
		return err
	}
	c.Params.Instance = told.Instance
	script, err := bootstrap.UserData(c.Params)
	if err != nil {
		return err
	}
	files := map[string]string{
		"/var/lib/cloud/seed/nocloud/user-data": strings.ReplaceAll(script, bootstrap.TokenPlaceholder, told.Token),
		"/var/lib/cloud/seed/nocloud/meta-data": "instance-id: i-" + told.Instance + "\nlocal-hostname: cloudbot\n",
		"/etc/cloud/cloud.cfg.d/99_e2e.cfg":     "datasource_list: [ NoCloud ]\nnetwork: {config: disabled}\n",
	}
	for path, text := range c.Files {
		files[path] = text
	}
	if out, err := exec.Command("cp", "-a", "--reflink=auto", c.Base, root+".new").CombinedOutput(); err != nil {
		return fmt.Errorf("copy the root: %w: %s", err, out)
	}
	for path, text := range files {
		path = filepath.Join(root+".new", path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	return os.Rename(root+".new", root)
}

// boot runs the computer, over reboots, until it is switched off.
func (c config) boot(root string) error {
	console, err := os.OpenFile(c.Console, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer console.Close()
	args := []string{
		"--boot", "--quiet", "--directory=" + root, "--machine=cloudbot", "--register=no", "--keep-unit", "--link-journal=no",
		"--network-namespace-path=" + c.Netns, "--resolv-conf=copy-host", "--console=pipe",
	}
	for _, b := range c.Binds {
		args = append(args, "--bind="+b)
	}
	cmd := exec.Command("systemd-nspawn", args...)
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		<-stop
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}()
	return cmd.Wait()
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
