package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/internal/problem"
)

// adminTokenLength is the minimum length of ADMIN_TOKEN.
const adminTokenLength = 32

// adminToken returns the token that the operators' listener requires; "": none, and only this computer reaches it.
// If machines are processes on this computer with their own users, they could reach it too. Then, without ADMIN_TOKEN,
// a token is made at each start, and made is true.
func (c config) adminToken() (token string, made bool) {
	if c.AdminToken == "" && c.LocalDevMode && (os.Geteuid() == 0 || c.production()) {
		return rand.Text() + rand.Text(), true
	}
	return c.AdminToken, false
}

// runningPath is where a server answers with its process ID, for the tools beside it.
const runningPath = "/running"

// adminHandler serves what operators see: metrics, profiles, and the comparison of log and stream.
func adminHandler(front *httpapi.Server, store *postgres.Store, conn *nats.Conn, relay *jetstream.Relay) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", front.AdminHandler())
	mux.HandleFunc("GET "+runningPath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("GET /verify", func(w http.ResponseWriter, r *http.Request) {
		counts, err := jetstream.Check(r.Context(), store, conn)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]int64{
			"epoch": relay.Stats().Epoch, "log": counts.Log, "stream": counts.Stream,
			"discarded": counts.Discarded, "missing": counts.Missing, "extra": counts.Extra, "different": counts.Different,
		})
	})
	return mux
}

// adminServer serves the operators' listener.
type adminServer struct {
	listener net.Listener
	handler  http.Handler
}

func (s adminServer) Run(ctx context.Context) error {
	srv := &http.Server{Handler: s.handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(s.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve operators: %w", err)
	}
	return nil
}

// guardAdmin passes requests of operators to next. They carry the token; without a token, they name the listener at
// addr as only this computer does. A page from elsewhere, whose name was rebound to this address, does neither.
func guardAdmin(token string, addr net.Addr, next http.Handler) http.Handler {
	want := sha256.Sum256([]byte("Bearer " + token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		switch {
		case token != "" && subtle.ConstantTimeCompare(got[:], want[:]) != 1:
			w.Header().Set("WWW-Authenticate", `Bearer realm="cloudbot operators"`)
			problem.Write(w, r, problem.Problem{Status: http.StatusUnauthorized, Code: "admin_token_required", Detail: "Send ADMIN_TOKEN as a bearer token. If the server made the token, it is in running.json in the data folder."})
		case token == "" && !ownHost(r.Host, addr):
			problem.Write(w, r, problem.Problem{Status: http.StatusMisdirectedRequest, Code: "wrong_host", Detail: "Without ADMIN_TOKEN, this listener answers only to its own address and to loopback names."})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// ownHost reports whether a Host header names a listener by its address or a loopback name, with its port.
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
