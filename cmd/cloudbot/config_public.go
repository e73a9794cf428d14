package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// noProxies is the value of TRUSTED_PROXIES if browsers and machines connect directly.
const noProxies = "none"

// checkPublic returns what a server open to strangers lacks.
func (c config) checkPublic() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, text := range map[string]string{"CONTROL_PLANE_URL": c.PublicURL, "ADVERTISE_URL": c.Advertise} {
		if text == "" {
			continue
		}
		if why := badBaseURL(text); why != "" {
			refuse("%s is %q, %s; use a URL such as https://cloudbot.example", name, redacted(text), why)
		}
	}
	if _, err := c.proxies(); err != nil {
		refuse("TRUSTED_PROXIES: %w; use address ranges such as 10.0.0.0/8, or none", err)
	}
	switch {
	case c.ClientHeader == "" || strings.EqualFold(c.ClientHeader, "X-Forwarded-For"):
	case !c.realIP():
		refuse("CLIENT_ADDRESS_HEADER is %q; choose X-Forwarded-For or X-Real-IP", c.ClientHeader)
	case len(fields(c.Proxies)) == 0 || strings.EqualFold(c.Proxies, noProxies):
		refuse("CLIENT_ADDRESS_HEADER is X-Real-IP and TRUSTED_PROXIES lists no proxy; list the proxies that send it")
	}
	if !c.production() {
		return errors.Join(errs...)
	}
	switch u, err := url.Parse(c.PublicURL); {
	case c.PublicURL == "" && c.LocalDevMode: // with machines on EC2, it is refused in any environment
		refuse("CONTROL_PLANE_URL is empty; in production set it to the URL that browsers and machines reach")
	case err == nil && u.Scheme == "http" && !loopbackHost(u.Hostname()):
		refuse("CONTROL_PLANE_URL is %q; in production it must be https, because passwords and desktops pass through it", redacted(c.PublicURL))
	}
	if strings.TrimSpace(c.Proxies) == "" {
		refuse("TRUSTED_PROXIES is empty; in production list the address ranges of your proxies (10.0.0.0/8), or set it to none if browsers connect directly")
	}
	if c.DatabaseURL == "" {
		refuse("DATABASE_URL is empty; in production use PostgreSQL 16 or newer")
	}
	return errors.Join(errs...)
}

// realIP reports whether proxies send the client's address as X-Real-IP.
func (c config) realIP() bool { return strings.EqualFold(c.ClientHeader, "X-Real-IP") }

// remarks returns warnings about settings with which the server starts nevertheless.
func (c config) remarks(environ []string) []string {
	said := strangeNames(environ)
	if c.DatabaseURL != "" && c.NATSURL == "" {
		said = append(said, "DATABASE_URL is set and NATS_URL is not: run only one replica, because it cannot reach desktops connected to a second one")
	}
	if u, err := url.Parse(c.PublicURL); c.LocalDevMode && !c.GiveShells && err == nil && u.Host != "" && !loopbackHost(u.Hostname()) {
		said = append(said, "CONTROL_PLANE_URL is beyond loopback, and LOCAL_DEV_MODE=true gives every account a shell on this computer: if strangers can reach that URL, set LOCAL_DEV_MODE=false")
	}
	return append(said, c.Payments.remarks(c.production())...)
}

// badBaseURL returns why paths cannot be added to a URL; "" if they can.
func badBaseURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return "not an http or https URL"
	case u.User != nil:
		return "with a user name in it"
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r > 0x7f }):
		return "with a host that is not ASCII (give its xn-- form)"
	case strings.HasSuffix(u.Host, ":"):
		return "with a colon and no port"
	case u.Path != "":
		return "with a path, and CloudBot only works at the root of a host"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(text, "#"):
		return "with a query or a fragment"
	}
	return ""
}

// redacted returns a URL for an error message, without its password.
func redacted(text string) string {
	if u, err := url.Parse(text); err == nil && u.Opaque == "" {
		return u.Redacted()
	}
	return "(unreadable)"
}

// loopbackHost reports whether a host's name or address means this computer.
func loopbackHost(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// proxies returns the ranges that TRUSTED_PROXIES lists. A single address is a range of one.
func (c config) proxies() ([]netip.Prefix, error) {
	var list []netip.Prefix
	texts := fields(c.Proxies)
	if len(texts) == 1 && strings.EqualFold(texts[0], noProxies) {
		return nil, nil
	}
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			list = append(list, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not an address range", text)
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 { // clients' addresses are compared in the IPv4 form
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Bits() == 0 {
			return nil, fmt.Errorf("%q covers every address, so every client could claim any address", text)
		}
		list = append(list, p)
	}
	return list, nil
}
