package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands"
)

// signedUp opens accounts as the server does, but with cheap hashes of passwords, and returns a server signed in as each.
func (s *server) signedUp(ctx context.Context, l *lab, n int) ([]*server, error) {
	made, err := secrets.LoadDev(filepath.Join(s.cmd.Dir, "data"))
	if err != nil {
		return nil, err
	}
	ring, err := secrets.NewKeyring(made.EncryptionKey)
	if err != nil {
		return nil, err
	}
	vault, err := secrets.OpenVault(ctx, secrets.VaultConfig{Pool: l.pool, Keyring: ring})
	if err != nil {
		return nil, err
	}
	tokens, err := secrets.NewTokens(secrets.TokensConfig{AccessKeys: []string{made.JWTSecret}, RefreshKeys: []string{made.JWTRefreshSecret}})
	if err != nil {
		return nil, err
	}
	store, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	accounts := &commands.Accounts{
		Log: commands.Log{
			Store: store, NewID: func() string { return ulid.Make().String() }, Now: func() time.Time { return time.Now().UTC() },
			DigestKey: []byte("a benchmark's digests have a key"),
		},
		Vault: vault, Blind: vault.Blind, Passwords: secrets.NewPasswords(secrets.PasswordsConfig{Key: make([]byte, 32), Cost: 4}),
	}
	list := make([]*server, n)
	err = atOnce(ctx, 4, n, func(i int) error {
		login, err := accounts.SignUp(ctx, commands.Origin{ClientAddr: "192.0.2.1"}, fmt.Sprintf("%s@example.com", ulid.Make()), "a long enough pass phrase", "", "bench")
		if err != nil {
			return err
		}
		one := *s
		one.account = login.Account
		one.token, _ = tokens.Access(login.Account, login.Session, time.Now())
		list[i] = &one
		return nil
	})
	return list, err
}

// atOnce calls do for the numbers below n, some at a time.
func atOnce(ctx context.Context, some, n int, do func(int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range some {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// listener is an open event stream of an account. It speaks HTTP by hand: a client of net/http takes more than the server.
type listener struct {
	net.Conn
	arrived chan time.Time // of each event
	ended   atomic.Bool
}

func (s *server) listen(ctx context.Context) (*listener, error) {
	address := strings.TrimPrefix(s.url, "http://")
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: loopback()}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 1<<10), 64<<10)
	_, err = fmt.Fprintf(conn, "GET /api/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", address, s.token)
	if err == nil && !lines.Scan() {
		err = errors.New("an event stream ended")
	}
	if status := lines.Text(); err == nil && status != "HTTP/1.1 200 OK" {
		err = fmt.Errorf("open an event stream: %s", status)
	}
	for err == nil && !strings.HasPrefix(lines.Text(), ": as of") {
		if !lines.Scan() {
			err = errors.New("an event stream ended")
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	in := &listener{Conn: conn, arrived: make(chan time.Time, 64)}
	go func() {
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "event: apikey.stored") {
				in.arrived <- time.Now()
			}
		}
		in.ended.Store(true)
		close(in.arrived)
	}()
	return in, nil
}

var loopbacks atomic.Int64

// loopback returns one of the machine's own addresses, in turn: each has ports of its own.
func loopback() net.IP { return net.IPv4(127, 0, 0, byte(2+loopbacks.Add(1)%16)) }

// holds counts what the server holds, by its operators' pages.
func (s *server) holds(ctx context.Context) (h held, err error) {
	var heap []byte
	for range 2 { // the first collection leaves what pools held in their second half
		if heap, err = get(ctx, s.admin+"/debug/pprof/heap?gc=1&debug=1"); err != nil {
			return h, err
		}
	}
	stacks, err := get(ctx, s.admin+"/debug/pprof/goroutine?debug=1")
	if err != nil {
		return h, err
	}
	if _, err := fmt.Sscanf(string(stacks), "goroutine profile: total %d", &h.Goroutines); err != nil {
		return h, err
	}
	for line := range strings.Lines(string(heap)) {
		var n, of int64
		if _, err := fmt.Sscanf(line, "# HeapAlloc = %d", &n); err == nil {
			h.Live += n
		}
		if _, err := fmt.Sscanf(line, "# Stack = %d / %d", &n, &of); err == nil {
			h.Live += n
		}
	}
	h.Files, h.Resident = filesOf(s.cmd.Process.Pid), residentOf(s.cmd.Process.Pid)
	metrics, err := get(ctx, s.admin+"/metrics")
	for line := range strings.Lines(string(metrics)) {
		for _, name := range []string{"cloudbot_http_bridges", "cloudbot_http_event_streams"} {
			var n int
			if _, err := fmt.Sscanf(line, name+" %d", &n); err == nil {
				h.Sessions += n
			}
		}
	}
	return h, err
}

func (s *server) cpu() time.Duration { return processCPU(s.cmd.Process.Pid) }
