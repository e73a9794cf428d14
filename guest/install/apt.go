package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// aptOptions make apt wait for dpkg's lock, try a network again, and ask nobody anything.
var aptOptions = []string{
	"-y", "-q", "-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=4", "-o", "Acquire::http::Timeout=30",
	"-o", "Acquire::https::Timeout=30", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
}

// apt runs one command of apt-get.
func (i *Installer) apt(ctx context.Context, args ...string) error {
	return i.unlocked(ctx, Command{Path: "nice", Args: append(append([]string{"-n", "5", "apt-get"}, aptOptions...), args...)})
}

// aptInstall installs packages without what they merely recommend. The lists are read once a run.
func (i *Installer) aptInstall(ctx context.Context, packages ...string) error {
	// A machine that was switched off in the middle of this left dpkg in the middle too.
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
		i.fresh = false // the lists may be what was wrong
	}
	return err
}

// firstOf installs the first of several choices that can be, each a list of packages, and returns its number.
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
		if errors.Is(last, errLocked) { // the next choice would wait for the same
			return "", last
		}
	}
	return "", fmt.Errorf("none of %q can be installed: %w", choices, last)
}

// vendor is a vendor's own package repository.
type vendor struct {
	name   string // of its files
	key    string // URL of its signing key
	source string // line of sources.list, with %s for the options
	arch   []string
}

// addVendor makes the vendor's packages known, or leaves no trace.
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
		return fmt.Errorf("%s's signing key is none", v.name)
	}
	if err := i.put(key, text, 0o644); err != nil {
		return err
	}
	line := fmt.Sprintf(v.source, "[arch="+i.arch+" signed-by="+key+"]")
	if err := i.put(list, []byte(line+"\n"), 0o644); err != nil {
		return err
	}
	// Only this list: the others are fresh.
	if err := i.apt(ctx, "update", "-o", "Dir::Etc::sourcelist="+list, "-o", "Dir::Etc::sourceparts=-", "-o", "APT::Get::List-Cleanup=0"); err != nil {
		return fmt.Errorf("%s's package list cannot be read: %w", v.name, err)
	}
	return nil
}
