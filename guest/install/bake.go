package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Bake makes this computer into an image of a machine: all steps, then nothing left that belongs to
// one machine alone. What is launched from the image starts with its desktop. Every step must work,
// as there is no second boot to try one again.
func Bake(ctx context.Context, c Config) error {
	if os.Getuid() != 0 && c.root == "" {
		return errors.New("bake: only root can set a machine up")
	}
	i, err := New(c)
	if err != nil {
		return err
	}
	report := func(p Progress) { i.log.Info("baking", "percent", p.Percent, "step", p.Step, "detail", p.Detail) }
	if err := i.Run(ctx, report, func(Milestone) {}); err != nil {
		return fmt.Errorf("bake: %w", err)
	}
	return i.clean(ctx)
}

// personal is what belongs to one machine alone, or can be had again.
var personal = []string{
	"/var/lib/cloudbot", "/etc/cloudbot/guest.json", "/etc/cloudbot/source", "/run/cloudbot", "/root/.npm",
	"/var/lib/apt/lists/*", "/var/log/cloud-init*", "/var/lib/cloud/instances", "/var/lib/cloud/instance", "/etc/ssh/ssh_host_*",
	"/home/*/.bash_history", "/root/.bash_history", "/home/*/.ssh/authorized_keys", "/root/.ssh/authorized_keys",
	home + "/.npm", home + "/.openclaw/config-journal-fingerprint.key", // OpenClaw makes another
}

func (i *Installer) clean(ctx context.Context) error {
	if err := i.apt(ctx, "clean"); err != nil {
		return err
	}
	var all error
	for _, pattern := range personal {
		paths, err := filepath.Glob(i.path(pattern))
		all = errors.Join(all, err)
		for _, p := range paths {
			all = errors.Join(all, os.RemoveAll(p))
		}
	}
	// Empty, not missing: systemd makes a new one at the first boot.
	return errors.Join(all, i.put("/etc/machine-id", nil, 0o444))
}
