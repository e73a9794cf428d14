package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
)

// exposed refuses to open this computer to strangers unless a setting allows it by name. It applies to the server and
// not to the tools beside it, which open nothing. euid is the user that the server runs as.
func (c config) exposed(ctx context.Context, euid int) error {
	errs := []error{c.shells(ctx, euid)}
	if c.AdminAddr != "" && c.AdminToken == "" {
		if host, _, err := net.SplitHostPort(c.AdminAddr); err != nil || beyondLoopback(ctx, host) {
			errs = append(errs, errors.New("ADMIN_ADDR is beyond loopback; set ADMIN_TOKEN (32 characters or more), or listen on 127.0.0.1"))
		}
	}
	return errors.Join(errs...)
}

// shells refuses machines on this computer if people other than its owner could have one.
func (c config) shells(ctx context.Context, euid int) error {
	const instead = "set LOCAL_DEV_MODE=false for machines on EC2, or GIVE_USERS_A_SHELL_ON_THIS_COMPUTER=true if you intend this"
	switch {
	case !c.LocalDevMode:
		return nil
	case c.production() && !c.GiveShells:
		return errors.New("LOCAL_DEV_MODE=true in production gives every account a shell on this computer; " + instead)
	case c.production() && euid != 0:
		return errors.New("LOCAL_DEV_MODE=true in production needs the server to run as root, which gives each machine its own user; run it as root, or set LOCAL_DEV_MODE=false for machines on EC2")
	case !c.GiveShells && beyondLoopback(ctx, c.Host):
		return errors.New("HOST is beyond loopback, and LOCAL_DEV_MODE=true gives every account a shell on this computer; set HOST=127.0.0.1, or GIVE_USERS_A_SHELL_ON_THIS_COMPUTER=true if you intend this")
	case euid == 0:
		return openFiles(c.secretFiles)
	}
	return nil
}

// warnOfShells logs what the settings allow.
func (c config) warnOfShells(log interface{ Warn(string, ...any) }) {
	if c.LocalDevMode && c.GiveShells {
		log.Warn("every account has a shell on this computer", "setting", "GIVE_USERS_A_SHELL_ON_THIS_COMPUTER", "as_users_of_their_own", os.Geteuid() == 0)
	}
}

// beyondLoopback reports whether other computers can reach a listener on host. For a name without an address it is
// false, because listening on it fails.
func beyondLoopback(ctx context.Context, host string) bool {
	if host == "" {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return !ip.IsLoopback()
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, ip := range found {
		if !ip.Unmap().IsLoopback() {
			return true
		}
	}
	return err != nil && !isNotFound(err)
}

func isNotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}
