package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// The machine is its user's, so desktop and agent may do everything on it, unless the operator decides otherwise. Nothing that
// the machine says is trusted in either case.
const (
	sudoersFile = "/etc/sudoers.d/90-cloudbot"
	sudoersText = "# Written by cloudbot-guest. The operator's setting DESKTOP_SUDO=off removes it.\n" + User + " ALL=(ALL) NOPASSWD:ALL\n"
	sudoersTry  = "/usr/local/lib/cloudbot/sudoers"

	// The agent's unit keeps its programs from gaining rights. This part of it allows sudo.
	gainFile = unitDir + "/cloudbot-openclaw.service.d/sudo.conf"
	gainText = "[Service]\nNoNewPrivileges=no\n"
)

// sudoStep gives the machine's user sudo, or takes it away again. Each boot checks that it is still so.
func (i *Installer) sudoStep() Step {
	if i.c.NoSudo {
		return Step{
			Name: "no-sudo", Title: "Removing sudo", Revision: 1, Vital: true, Usual: 30 * time.Second, do: takeSudo,
			still: func(i *Installer) bool { return !i.exists(sudoersFile) && !i.exists(gainFile) },
		}
	}
	return Step{
		Name: "sudo", Title: "Setting up sudo", Revision: 1, Usual: time.Minute, do: giveSudo,
		still: func(i *Installer) bool { return i.holds(sudoersFile, sudoersText) && i.holds(gainFile, gainText) },
	}
}

func giveSudo(ctx context.Context, i *Installer) (string, error) {
	if i.output(ctx, "visudo", "--version") == "" {
		if err := i.aptInstall(ctx, "sudo"); err != nil {
			return "", err
		}
	}
	// A faulty file in /etc/sudoers.d disables sudo for all users, so it is checked elsewhere first.
	if err := i.put(sudoersTry, []byte(sudoersText), 0o440); err != nil {
		return "", err
	}
	defer os.Remove(i.path(sudoersTry))
	if err := i.command(ctx, "visudo", "-c", "-q", "-f", i.path(sudoersTry)); err != nil {
		return "", fmt.Errorf("check the rules of sudo: %w", err)
	}
	if err := errors.Join(i.put(sudoersFile, []byte(sudoersText), 0o440), i.put(gainFile, []byte(gainText), 0o644)); err != nil {
		return "", err
	}
	return "", i.reloadUnits(ctx)
}

func takeSudo(ctx context.Context, i *Installer) (string, error) {
	for _, file := range []string{sudoersFile, gainFile} {
		if err := os.Remove(i.path(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	_ = os.Remove(filepath.Dir(i.path(gainFile))) // fails if the operator has files in it
	return "", i.reloadUnits(ctx)
}

// reloadUnits has systemd read the units again, if it runs.
func (i *Installer) reloadUnits(ctx context.Context) error {
	if err := i.command(ctx, "systemctl", "daemon-reload"); err != nil && i.booted() {
		return err
	}
	return nil
}

func (i *Installer) exists(path string) bool {
	_, err := os.Lstat(i.path(path))
	return err == nil
}

func (i *Installer) holds(path, text string) bool {
	got, err := os.ReadFile(i.path(path))
	return err == nil && string(got) == text
}
