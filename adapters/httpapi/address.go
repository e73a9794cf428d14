package httpapi

import (
	"net/http"
	"net/netip"
	"strings"
)

// ClientAddr returns a function that finds the address of a request's client, for handlers of Config.Mounts.
func ClientAddr(trusted []netip.Prefix) func(*http.Request) netip.Addr {
	return func(r *http.Request) netip.Addr { return clientAddr(r, trusted) }
}

// clientAddr returns the address of the client that sent the request. It reads X-Forwarded-For from its end,
// and only as far as trusted proxies wrote it; the client may have written the rest.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && contains(trusted, addr); i-- {
		hop, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap().WithZone("")
	}
	return addr
}

// addressed returns the request as if its proxy had sent the client's address as X-Forwarded-For, with RealIP. Some
// platforms append addresses of their own to that header, which change from request to request.
func (s *Server) addressed(r *http.Request) *http.Request {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if !s.cfg.RealIP || err != nil || !contains(s.cfg.TrustedProxies, peer.Addr().Unmap().WithZone("")) {
		return r
	}
	r = r.Clone(r.Context())
	r.Header.Del("X-Forwarded-For")
	if client, err := parseHop(strings.Join(r.Header.Values("X-Real-Ip"), ",")); err == nil {
		r.Header.Set("X-Forwarded-For", client.String())
	}
	return r
}

// header is the name of the header in which trusted proxies send the client's address.
func (c Config) header() string {
	if c.RealIP {
		return "X-Real-IP"
	}
	return "X-Forwarded-For"
}

// parseHop parses an address as proxies write it: some add a port or brackets.
func parseHop(text string) (netip.Addr, error) {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr(), nil
	}
	if inside, ok := strings.CutPrefix(text, "["); ok {
		text = strings.TrimSuffix(inside, "]")
	}
	return netip.ParseAddr(text)
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
