package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/oklog/ulid/v2"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// A desktop may have so many sessions, and an account so many desktops here.
const (
	sessionsOfDesktop = 16
	desktopsOfAccount = 2
	fleetActive       = 500
	fleetRate         = 5 // frames a second of an active session
)

// benchFleet holds idle sessions, event streams and active sessions at once on two replicas of the server's program: one has the
// tunnels and the sessions, the other the event streams. It measures what a hand on the mouse and a write meet meanwhile, and looks
// what is left once all have gone and others have come and gone.
func benchFleet(ctx context.Context, l *lab, o options) error {
	if files := moreFiles(scaleFiles); files < uint64(max(o.scale.idle+fleetActive, o.streams))*11/10 {
		return fmt.Errorf("the hard limit of open files is %d: -idle and -streams must be smaller", files)
	}
	dir, err := os.MkdirTemp("", "cloudbot-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f := &fleet{l: l}
	defer f.end()
	if err := f.begin(ctx, dir, o.scale.idle+fleetActive, o.streams, o.scale.churn); err != nil {
		return err
	}
	if err := f.churn(ctx, 400); err != nil { // what a running server has warm
		return err
	}
	before, err := f.settled(ctx)
	if err != nil {
		return err
	}
	if err := f.hold(ctx, dir, o.scale.idle, o.streams); err != nil {
		return err
	}
	if err := f.left(ctx, "all of them", before); err != nil || o.scale.churn == 0 {
		return err
	}
	began := time.Now()
	if err := f.churn(ctx, o.scale.churn); err != nil {
		return err
	}
	return f.left(ctx, fmt.Sprintf("%d sessions with a ticket each, and as many event streams, at %.0f/s", o.scale.churn, float64(o.scale.churn)/time.Since(began).Seconds()), before)
}

// fleet is two replicas with their machines' guests and screens.
type fleet struct {
	*server         // has the tunnels and the sessions
	streams *server // has the event streams
	cloud   *httptest.Server
	bus     *natsserver.Server

	l              *lab
	accounts       []*server // as whom a client of the first replica is signed in
	machines       int
	screen, guests *process
}

func (f *fleet) begin(ctx context.Context, dir string, sessions, streams, churn int) (err error) {
	f.machines = max((sessions+sessionsOfDesktop-1)/sessionsOfDesktop, churn/100*desktopsOfAccount) // an account may write only so often
	f.cloud = httptest.NewServer(ec2test.New(ec2test.Config{Seed: 1}))
	if f.bus, err = startNATS(dir); err != nil {
		return err
	}
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for _, folder := range []string{first, filepath.Join(second, "data")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return err
		}
	}
	if f.server, err = startServer(ctx, first, f.l, f.cloud.URL, "NATS_URL="+f.bus.ClientURL()); err != nil {
		return err
	}
	secrets, err := os.ReadFile(filepath.Join(first, "data", "secrets.json"))
	if err == nil {
		err = os.WriteFile(filepath.Join(second, "data", "secrets.json"), secrets, 0o600)
	}
	if err != nil {
		return err
	}
	if f.streams, err = startServer(ctx, second, f.l, f.cloud.URL, "NATS_URL="+f.bus.ClientURL()); err != nil {
		return err
	}
	accounts := max((f.machines+desktopsOfAccount-1)/desktopsOfAccount, (streams+streamsOfOne-1)/streamsOfOne)
	if f.accounts, err = f.signedUp(ctx, f.l, accounts); err != nil {
		return err
	}
	if err := f.launched(ctx); err != nil {
		return err
	}
	if f.screen, err = start(ctx, "scalescreen"); err != nil {
		return err
	}
	b, err := get(ctx, f.screen.URL+"/address")
	if err == nil {
		f.guests, err = start(ctx, "scaleguests", f.url, string(b), fmt.Sprint(f.machines))
	}
	return err
}

// there returns the n-th account as a client of the replica with the event streams.
func (f *fleet) there(n int) *server {
	one := *f.accounts[n%len(f.accounts)]
	one.url = f.streams.url
	return &one
}

func (f *fleet) end() {
	for _, p := range []*process{f.guests, f.screen} {
		if p != nil {
			p.stop()
		}
	}
	for _, s := range []*server{f.streams, f.server} {
		if s != nil {
			s.stop()
		}
	}
	if f.bus != nil {
		f.bus.Shutdown()
	}
	f.cloud.Close()
}

// launched writes the log of machines that run and whose guests have enrolled.
func (f *fleet) launched(ctx context.Context) error {
	store, err := f.l.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	key := benchKey().Public().(ed25519.PublicKey)
	return atOnce(ctx, 8, f.machines, func(n int) error {
		account, at := f.accounts[n/desktopsOfAccount].account, time.Now().UTC()
		events := []instance.Event{
			instance.Requested{Account: account, Type: "t3.medium", Region: "eu-central-1"},
			instance.LaunchAttempted{Attempt: 1, At: at, Spec: instance.Spec{ClientToken: machineName(n), Type: "t3.medium", Region: "eu-central-1", TokenKey: "k1"}},
			instance.MachineLaunched{Attempt: 1, Machine: fmt.Sprintf("i-%017x", n), At: at},
			instance.MachineRunning{At: at},
			instance.GuestEnrolled{Attempt: 1, PublicKey: key},
			instance.PhaseReached{Boot: "boot", Phase: instance.PhaseReady, At: at},
		}
		write := eventstore.Write{Stream: eventstore.StreamID{Aggregate: "instance", ID: machineName(n)}}
		for _, e := range events {
			name, schema, data, err := instance.Codec.Encode(e)
			if err != nil {
				return err
			}
			write.Events = append(write.Events, eventstore.NewEvent{
				ID: ulid.Make().String(), Type: name, Schema: schema, Time: at, Data: data, Meta: eventstore.Metadata{Actor: account},
			})
		}
		_, err := store.Append(ctx, eventstore.Append{Writes: []eventstore.Write{write}})
		return err
	})
}

// view opens the n-th session, with a ticket or with its account's token.
func (f *fleet) view(ctx context.Context, n int, ticket bool) (net.Conn, error) {
	n %= f.machines
	of := f.accounts[n/desktopsOfAccount]
	if !ticket {
		return viewDesktop(ctx, f.url, n, http.Header{"Authorization": {"Bearer " + of.token}})
	}
	var answer struct{ Ticket string }
	if err := of.post(ctx, "/api/instances/"+machineName(n)+"/tickets", `{"kind":"vnc"}`, http.StatusCreated, &answer); err != nil {
		return nil, err
	}
	return viewDesktop(ctx, f.url, n, http.Header{"Origin": {f.url}}, "ticket."+answer.Ticket) // tickets are for browsers
}

func viewDesktop(ctx context.Context, url string, n int, header http.Header, protocols ...string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: loopback()}, Timeout: 20 * time.Second}
	return viewWith(ctx, "ws"+strings.TrimPrefix(url, "http")+"/api/instances/"+machineName(n)+"/vnc", &websocket.DialOptions{
		Subprotocols: append([]string{"binary"}, protocols...), HTTPHeader: header,
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}},
	})
}

// viewing is what a process of viewers needs.
type viewing struct {
	URL      string
	Machines int
	Tokens   []string // of the accounts
	From, To int      // sessions
	Kind     byte
	Rate     byte
}

// viewers starts a process that opens sessions, and returns once they are open. It has files of its own.
func (f *fleet) viewers(ctx context.Context, dir string, v viewing) (*process, error) {
	v.URL, v.Machines = f.url, f.machines
	for _, of := range f.accounts {
		v.Tokens = append(v.Tokens, of.token)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fmt.Sprintf("viewers-%d.json", v.From))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return nil, err
	}
	return start(ctx, "fleetviewers", path)
}

func playFleetViewers(ctx context.Context, path string) error {
	var v viewing
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return err
	}
	var got, open atomic.Int64
	err = atOnce(ctx, 16, v.To-v.From, func(n int) error {
		n = (v.From + n) % v.Machines
		conn, err := viewDesktop(ctx, v.URL, n, http.Header{"Authorization": {"Bearer " + v.Tokens[n/desktopsOfAccount]}})
		if err != nil {
			return fmt.Errorf("session of machine %d: %w", n, err)
		}
		context.AfterFunc(ctx, func() { conn.Close() })
		open.Add(1)
		go func() { count(conn, &got); open.Add(-1) }()
		request := pictureRequest(v.Kind)
		request[5] = v.Rate
		_, err = conn.Write(request)
		return err
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/held", func(w http.ResponseWriter, r *http.Request) {
		answerLook(w, r, func(h *held) { h.Sessions, h.Sent = int(open.Load()), got.Load() })
	})
	return serveHTTP(ctx, mux)
}

// churn opens and closes sessions with tickets, and event streams.
func (f *fleet) churn(ctx context.Context, n int) error {
	return atOnce(ctx, 16, n, func(n int) error {
		conn, err := f.view(ctx, n, true)
		if err != nil {
			return err
		}
		if _, err := moves(conn, 1); err != nil {
			return err
		}
		in, err := f.there(n).listen(ctx)
		if err != nil {
			return err
		}
		return errors.Join(in.Close(), conn.Close())
	})
}

func (f *fleet) cpus() time.Duration { return f.server.cpu() + f.streams.cpu() + f.guests.cpu() }

// settled returns what replicas and guests hold together once no session is left.
func (f *fleet) settled(ctx context.Context) (h held, err error) {
	http.DefaultClient.CloseIdleConnections()
	for range 300 { // a minute
		g, err := holds(ctx, f.guests, "")
		if err != nil {
			return h, err
		}
		h = g
		for _, s := range []*server{f.server, f.streams} {
			one, err := s.holds(ctx)
			if err != nil {
				return h, err
			}
			h.Live, h.Goroutines, h.Files, h.Sessions = h.Live+one.Live, h.Goroutines+one.Goroutines, h.Files+one.Files, h.Sessions+one.Sessions
		}
		if h.Sessions+h.Streams == 0 {
			break
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return h, err
		}
	}
	return h, nil
}

// left prints what is left over.
func (f *fleet) left(ctx context.Context, of string, before held) error {
	if err := sleep(ctx, 2*time.Second); err != nil { // closed connections' goroutines end
		return err
	}
	after, err := f.settled(ctx)
	if err != nil {
		return err
	}
	f.server.saveHeld(ctx, "left-sessions")
	f.streams.saveHeld(ctx, "left-streams")
	var tickets int
	if err := f.l.pool.QueryRow(ctx, `SELECT count(*) FROM ops.tickets`).Scan(&tickets); err != nil {
		return err
	}
	goroutines, files := after.Goroutines-before.Goroutines, after.Files-before.Files
	fmt.Printf("| left over of %s | %d sessions and event streams, %d tunnel streams, %d tickets, %d goroutines, %d files, %.0f kB: %s |\n",
		of, after.Sessions, after.Streams, tickets, goroutines, files, float64(after.Live-before.Live)/1e3,
		verdict(after.Sessions+after.Streams+tickets == 0 && goroutines < 20 && files < 20))
	return nil
}
