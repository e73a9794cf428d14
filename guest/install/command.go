package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cloudbot-ai/control-plane/guest/proc"
)

// Command is a program that runs to its end.
type Command struct {
	Path string // looked up in searchPath
	Args []string
	Env  []string  // added to a fixed few
	Out  io.Writer // standard output and error; nil: the installer's
}

func (c Command) String() string { return strings.Join(append([]string{c.Path}, c.Args...), " ") }

// searchPath begins with the folder of the Node that we install.
const searchPath = prefix + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// handedOn lists the variables of the guest's environment that programs inherit: how to reach the network.
var handedOn = []string{
	"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE",
}

// execute runs c as a child that ends with the guest, at a low priority, because a desktop may be in use.
func (i *Installer) execute(ctx context.Context, c Command) error {
	path, err := lookPath(c.Path)
	if err != nil {
		return err
	}
	env := []string{"PATH=" + searchPath, "HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1"}
	for _, name := range handedOn {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	out := c.Out
	if out == nil {
		out = i.c.Output
	}
	err = proc.Run(ctx, proc.Child{Path: path, Args: c.Args, Env: append(env, c.Env...), Dir: "/", Output: out}, nil)
	if errors.Is(err, proc.ErrEnded) { // it should end
		return nil
	}
	return err
}

func lookPath(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, dir := range filepath.SplitList(searchPath) {
		p := filepath.Join(dir, name)
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

func (i *Installer) command(ctx context.Context, path string, args ...string) error {
	return i.c.run(ctx, Command{Path: path, Args: args})
}

// output runs a command and returns its trimmed output, at most 4 KiB; "": it failed.
func (i *Installer) output(ctx context.Context, path string, args ...string) string {
	var out strings.Builder
	if err := i.c.run(ctx, Command{Path: path, Args: args, Out: &out}); err != nil {
		return ""
	}
	s := strings.TrimSpace(out.String())
	return s[:min(len(s), 4<<10)]
}
