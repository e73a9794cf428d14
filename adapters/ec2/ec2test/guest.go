package ec2test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Guest is a program that runs on each machine while it runs.
//
// User-data is a script that changes the computer it runs on, as root. It is not run here: Prepare extracts what
// Command needs from it.
type Guest struct {
	Command []string // started in the machine's folder; ended with SIGTERM, and killed after 5 s
	Dir     string   // contains one folder for each machine, kept over stop and start
	// Prepare prepares a machine's folder before each boot. Nil: no preparation.
	Prepare func(m Machine, dir string) error
}

// Run starts and ends the guests together with their machines. When ctx ends, it ends all guests and returns.
// Without a command it only waits.
func (s *Server) Run(ctx context.Context) error {
	guests := map[string]*guest{}
	defer func() {
		for _, g := range guests {
			g.end()
		}
	}()
	for retry.Sleep(ctx, 100*time.Millisecond) == nil {
		for _, m := range s.Machines() {
			g := guests[m.ID]
			switch {
			case len(s.cfg.Guest.Command) == 0:
			case m.State == Running && g == nil:
				g, err := s.boot(m)
				if err != nil {
					return err
				}
				guests[m.ID] = g
			case m.State == Running && g.exited():
				s.Outside(m.ID, Stopped) //nolint:errcheck // it may already be changing
				delete(guests, m.ID)
			case m.State != Running && g != nil:
				g.end()
				delete(guests, m.ID)
			}
		}
	}
	return nil
}

type guest struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func (s *Server) boot(m Machine) (*guest, error) {
	dir := filepath.Join(s.cfg.Guest.Dir, m.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("boot %s: %w", m.ID, err)
	}
	if prepare := s.cfg.Guest.Prepare; prepare != nil {
		if err := prepare(m, dir); err != nil {
			return nil, fmt.Errorf("boot %s: %w", m.ID, err)
		}
	}
	out, err := os.OpenFile(filepath.Join(dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("boot %s: %w", m.ID, err)
	}
	defer out.Close()
	cmd := exec.Command(s.cfg.Guest.Command[0], s.cfg.Guest.Command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("boot %s: %w", m.ID, err)
	}
	g := &guest{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(g.done)
	}()
	return g, nil
}

func (g *guest) exited() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// end ends the guest and all processes that it started.
func (g *guest) end() {
	group := -g.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-g.done:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	<-g.done
}
