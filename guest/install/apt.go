package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// aptOptions make apt wait for dpkg's lock, retry the network, and ask no questions.
var aptOptions = []string{
	"-y", "-q", "-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=4", "-o", "Acquire::http::Timeout=30",
	"-o", "Acquire::https::Timeout=30", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
}

// apt runs a command of apt-get.
func (i *Installer) apt(ctx context.Context, args ...string) error {
	return i.unlocked(ctx, Command{Path: "nice", Args: append(append([]string{"-n", "5", "apt-get"}, aptOptions...), args...)})
}

// aptInstall installs packages without recommended ones. It updates the package lists once in each run.
func (i *Installer) aptInstall(ctx context.Context, packages ...string) error {
	// A machine that was switched off during an installation left dpkg unfinished.
	if err := i.unlocked(ctx, Command{Path: "dpkg", Args: []string{"--configure", "-a"}}); err != nil {
		return err
	}
	if !i.fresh {
		if err := i.apt(ctx, "update"); err != nil {
			return err
		}
		i.fresh = true
	}
	err := i.apt(ctx, append([]string{"install", "--no-install-recommends"}, packages...)...)
	if err != nil {
		i.fresh = false // outdated lists may be the cause
	}
	return err
}

// firstOf installs the first of several choices that works, each a list of packages, and returns it.
func (i *Installer) firstOf(ctx context.Context, choices ...string) (string, error) {
	var last error
	for _, choice := range choices {
		packages := strings.Fields(choice)
		if last = i.aptInstall(ctx, packages...); last == nil {
			return packages[0], nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if errors.Is(last, errLocked) { // the next choice would wait for the same lock
			return "", last
		}
	}
	return "", fmt.Errorf("none of %q can be installed: %w", choices, last)
}

// vendor is the package repository of a vendor.
type vendor struct {
	name   string // of its files
	key    string // URL of its signing key
	source string // line of sources.list, with %s for the options
	arch   []string
}

// addVendor adds the vendor's repository; if that fails it removes its files again.
func (i *Installer) addVendor(ctx context.Context, v vendor) (err error) {
	ok := false
	for _, a := range v.arch {
		ok = ok || a == i.arch
	}
	if !ok {
		return fmt.Errorf("%s has nothing for %s", v.name, i.arch)
	}
	key, list := "/etc/apt/keyrings/"+v.name+".asc", "/etc/apt/sources.list.d/"+v.name+".list"
	defer func() {
		if err != nil {
			os.Remove(i.path(key))
			os.Remove(i.path(list))
		}
	}()
	text, err := i.download(ctx, v.key, 64<<10)
	if err != nil {
		return fmt.Errorf("%s's repository cannot be reached: %w", v.name, err)
	}
	if !strings.Contains(string(text), "BEGIN PGP PUBLIC KEY BLOCK") {
		return fmt.Errorf("%s's signing key is not a PGP public key", v.name)
	}
	if err := i.put(key, text, 0o644); err != nil {
		return err
	}
	line := fmt.Sprintf(v.source, "[arch="+i.arch+" signed-by="+key+"]")
	if err := i.put(list, []byte(line+"\n"), 0o644); err != nil {
		return err
	}
	// Only this list: the others are up to date.
	if err := i.apt(ctx, "update", "-o", "Dir::Etc::sourcelist="+list, "-o", "Dir::Etc::sourceparts=-", "-o", "APT::Get::List-Cleanup=0"); err != nil {
		return fmt.Errorf("%s's package list cannot be read: %w", v.name, err)
	}
	return nil
}
