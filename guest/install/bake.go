package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Bake turns this computer into an image of a machine: it runs all steps and then removes everything that belongs to one
// machine alone. A machine launched from the image starts with its desktop. Every step must succeed, because no later
// boot retries it.
func Bake(ctx context.Context, c Config) error {
	if os.Getuid() != 0 && c.root == "" {
		return errors.New("bake: only root can set up a machine")
	}
	i, err := New(c)
	if err != nil {
		return err
	}
	report := func(p Progress) {
		i.log.Info("bake progressed", "percent", p.Percent, "step", p.Step, "detail", p.Detail)
	}
	if err := i.Run(ctx, report, func(Milestone) {}); err != nil {
		return fmt.Errorf("bake: %w", err)
	}
	return i.clean(ctx)
}

// personal lists the files that belong to one machine alone, or can be downloaded again.
var personal = []string{
	"/var/lib/cloudbot", "/etc/cloudbot/guest.json", "/etc/cloudbot/source", "/run/cloudbot", "/root/.npm",
	"/var/lib/apt/lists/*", "/var/log/cloud-init*", "/var/lib/cloud/instances", "/var/lib/cloud/instance", "/etc/ssh/ssh_host_*",
	"/home/*/.bash_history", "/root/.bash_history", "/home/*/.ssh/authorized_keys", "/root/.ssh/authorized_keys",
	home + "/.npm", home + "/.openclaw/config-journal-fingerprint.key", // OpenClaw creates another
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
	// Empty, not missing: systemd creates a new id at the first boot.
	return errors.Join(all, i.put("/etc/machine-id", nil, 0o444))
}
