package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/cloudbot-ai/control-plane/internal/problem"
)

// adminTokenLength is the least that ADMIN_TOKEN may have.
const adminTokenLength = 32

// adminToken is what the operators' listener asks for; "": nothing, and only this computer reaches it. Where
// machines are processes of this computer and have users of their own, it is not the operator's alone: without
// ADMIN_TOKEN there is one made at each start, which made tells.
func (c config) adminToken() (token string, made bool) {
	if c.AdminToken == "" && c.LocalDevMode && (os.Geteuid() == 0 || c.production()) {
		return rand.Text() + rand.Text(), true
	}
	return c.AdminToken, false
}

// guardAdmin lets operators through to next: who has the token, or, where there is none, who calls the listener at
// addr by a name that only this computer uses. A page that a browser took from somewhere else, under a name that
// now leads here, has neither.
func guardAdmin(token string, addr net.Addr, next http.Handler) http.Handler {
	want := sha256.Sum256([]byte("Bearer " + token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		switch {
		case token != "" && subtle.ConstantTimeCompare(got[:], want[:]) != 1:
			w.Header().Set("WWW-Authenticate", `Bearer realm="cloudbot operators"`)
			problem.Write(w, r, problem.Problem{Status: http.StatusUnauthorized, Code: "admin_token_required", Detail: "Send ADMIN_TOKEN as a bearer token. A token that the server made is in running.json in its data folder."})
		case token == "" && !ownHost(r.Host, addr):
			problem.Write(w, r, problem.Problem{Status: http.StatusMisdirectedRequest, Code: "wrong_host", Detail: "Without ADMIN_TOKEN, this listener answers only to its own address and to loopback names."})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ownHost tells whether a Host header names a listener by its address or a loopback name, with its port.
func ownHost(header string, addr net.Addr) bool {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return false
	}
	host, port, err := net.SplitHostPort(header)
	if err != nil {
		host, port = strings.Trim(header, "[]"), "80"
	}
	if port != strconv.Itoa(int(at.Port())) {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return loopbackHost(host) || err == nil && ip == at.Addr()
}

// askAdmin gets a page of a running server's listener for operators.
func askAdmin(ctx context.Context, r running, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.AdminURL+path, nil)
	if err != nil {
		return nil, err
	}
	if r.AdminToken != "" {
		req.Header.Set("Authorization", "Bearer "+r.AdminToken)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the server: %s: %s", res.Status, text)
	}
	return text, nil
}
