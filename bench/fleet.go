package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/oklog/ulid/v2"

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

// benchFleet holds idle sessions, event streams and active sessions at once on the server's program, measures what a hand on the
// mouse and a write meet meanwhile, and looks what is left once all have gone and others have come and gone.
func benchFleet(ctx context.Context, l *lab, o options) error {
	sessions, streams := o.sessions, o.streams
	need := uint64(sessions+streams+fleetActive) + 2000
	if files := moreFiles(need); files < need {
		return fmt.Errorf("the hard limit of open files is %d: -sessions and -streams must be smaller, or root must run this", files)
	}
	return inServer(ctx, l, func(s *server) error {
		f := &fleet{server: s, l: l}
		if err := f.begin(ctx, sessions+fleetActive, streams); err != nil {
			return err
		}
		defer f.end()
		if err := f.churn(ctx, 400); err != nil { // what a running server has warm
			return err
		}
		before, err := f.settled(ctx)
		if err != nil {
			return err
		}
		if err := f.hold(ctx, sessions, streams); err != nil {
			return err
		}
		if err := f.left(ctx, "all of them", before); err != nil || o.churn == 0 {
			return err
		}
		began := time.Now()
		if err := f.churn(ctx, o.churn); err != nil {
			return err
		}
		return f.left(ctx, fmt.Sprintf("%d sessions with a ticket each, and as many event streams, at %.0f/s", o.churn, float64(o.churn)/time.Since(began).Seconds()), before)
	})
}

// fleet is the server with its machines, their guests and their screens.
type fleet struct {
	*server
	l              *lab
	accounts       []*server
	machines       int
	screen, guests *process
}

func (f *fleet) begin(ctx context.Context, sessions, streams int) (err error) {
	f.machines = (sessions + sessionsOfDesktop - 1) / sessionsOfDesktop
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
	if err != nil {
		f.end()
	}
	return err
}

func (f *fleet) end() {
	for _, p := range []*process{f.guests, f.screen} {
		if p != nil {
			p.stop()
		}
	}
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
	of, path := f.accounts[n/desktopsOfAccount], "/api/instances/"+machineName(n)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: loopback()}, Timeout: 20 * time.Second}
	options := &websocket.DialOptions{
		Subprotocols: []string{"binary"}, HTTPHeader: http.Header{},
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}},
	}
	if ticket {
		var answer struct{ Ticket string }
		if err := of.post(ctx, path+"/tickets", `{"kind":"vnc"}`, http.StatusCreated, &answer); err != nil {
			return nil, err
		}
		options.Subprotocols = append(options.Subprotocols, "ticket."+answer.Ticket)
		options.HTTPHeader.Set("Origin", f.url) // tickets are for browsers
	} else {
		options.HTTPHeader.Set("Authorization", "Bearer "+of.token)
	}
	return viewWith(ctx, "ws"+f.url[len("http"):]+path+"/vnc", options)
}

// hold opens everything, keeps it for a while, and prints what that took.
func (f *fleet) hold(ctx context.Context, sessions, streams int) error {
	empty, err := f.settled(ctx)
	if err != nil {
		return err
	}
	var closing atomic.Bool
	var lost, frames atomic.Int64
	var mu sync.Mutex
	var conns []net.Conn
	keep := func(conn net.Conn, got *atomic.Int64) {
		mu.Lock()
		conns = append(conns, conn)
		mu.Unlock()
		go func() {
			count(conn, got)
			if !closing.Load() {
				lost.Add(1)
			}
		}()
	}
	defer func() {
		closing.Store(true)
		for _, conn := range conns {
			conn.Close()
		}
	}()
	began := time.Now()
	all := sessions + fleetActive
	err = atOnce(ctx, 16, all, func(n int) error {
		conn, err := f.view(ctx, n, false)
		if err != nil {
			return fmt.Errorf("session %d: %w", n, err)
		}
		request, got := pictureRequest(screenWaits), new(atomic.Int64)
		if n >= sessions {
			request, got = pictureRequest(screenPaced), &frames
			request[5] = fleetRate
		}
		keep(conn, got)
		_, err = conn.Write(request)
		return err
	})
	if err != nil {
		return err
	}
	opened := time.Since(began)
	heard := make([][]*listener, len(f.accounts))
	err = atOnce(ctx, 16, len(f.accounts), func(n int) error {
		for len(heard[n]) < streamsOfOne && n*streamsOfOne+len(heard[n]) < streams {
			in, err := f.accounts[n].listen(ctx)
			if err != nil {
				return err
			}
			heard[n] = append(heard[n], in)
		}
		return nil
	})
	defer func() {
		for _, in := range slices.Concat(heard...) {
			in.Close()
		}
	}()
	if err != nil {
		return err
	}
	// All are there. Meanwhile a hand moves a mouse, and accounts store keys.
	mouse, err := f.view(ctx, f.machines-1, false)
	if err != nil {
		return err
	}
	defer mouse.Close()
	var trips []time.Duration
	var arrived []time.Duration
	cpu, at, bytes := f.server.cpu()+f.guests.cpu(), time.Now(), frames.Load()
	var done sync.WaitGroup
	var failed error
	done.Go(func() { trips, failed = moves(mouse, 300) })
	for n := range 200 {
		of, ins := f.accounts[n%len(f.accounts)], heard[n%len(f.accounts)]
		stored := time.Now()
		if err := of.store(ctx, n, "respond-async"); err != nil {
			return err
		}
		for _, in := range ins {
			select {
			case t, ok := <-in.arrived:
				if !ok {
					return errors.New("an event stream ended")
				}
				arrived = append(arrived, t.Sub(stored))
			case <-time.After(30 * time.Second):
				return errors.New("an event did not arrive within 30 s")
			}
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	done.Wait()
	took := time.Since(at)
	cpu = f.server.cpu() + f.guests.cpu() - cpu
	rate := float64(frames.Load()-bytes) / frameBytes / took.Seconds()
	full, err := f.server.holds(ctx)
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	gone := int(lost.Load())
	for _, in := range slices.Concat(heard...) {
		if in.ended.Load() {
			gone++
		}
	}
	fmt.Printf("\n| at once, on the server's program | |\n|---|---|\n")
	fmt.Printf("| idle sessions, active ones (%d frames/s of %d B each), event streams, machines | %d, %d, %d, %d |\n", fleetRate, frameBytes, sessions, fleetActive, streams, f.machines)
	fmt.Printf("| lost while they were held | **%d**: %s |\n", gone, verdict(gone == 0))
	fmt.Printf("| sessions opened | %.0f/s |\n", float64(all)/opened.Seconds())
	fmt.Printf("| server: live, resident, files | %.0f MB, %.0f MB, %d |\n", float64(full.Live-empty.Live)/1e6, float64(full.Resident)/1e6, full.Files)
	fmt.Printf("| frames that arrived; CPU of server and guests | %.0f of %d/s; %.2f of 2 cores |\n", rate, fleetActive*fleetRate, cpu.Seconds()/took.Seconds())
	for _, row := range []struct {
		name string
		took []time.Duration
	}{{"round trip of a mouse's message, p50, p99", trips}, {"a write → its account's streams, p50, p99", arrived}} {
		slices.Sort(row.took)
		ms := func(percent int) float64 {
			return float64(row.took[len(row.took)*percent/100].Microseconds()) / 1e3
		}
		fmt.Printf("| %s | %.2f ms, %.2f ms |\n", row.name, ms(50), ms(99))
	}
	return nil
}

// moves asks a screen for answers and returns how long they took.
func moves(conn net.Conn, n int) (took []time.Duration, err error) {
	b := pictureRequest(screenAnswer)
	for range n {
		began := time.Now()
		if _, err := conn.Write(b); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(conn, b); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
		time.Sleep(10 * time.Millisecond)
	}
	return took, nil
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
		in, err := f.accounts[n%len(f.accounts)].listen(ctx)
		if err != nil {
			return err
		}
		return errors.Join(in.Close(), conn.Close())
	})
}

// settled returns what server and guests hold together once no session is left.
func (f *fleet) settled(ctx context.Context) (h held, err error) {
	http.DefaultClient.CloseIdleConnections()
	for range 300 { // a minute
		g, err := holds(ctx, f.guests, "")
		if err != nil {
			return h, err
		}
		if h, err = f.server.holds(ctx); err != nil {
			return h, err
		}
		quiet := g.Sessions+g.Streams == 0 && h.Sessions == 0
		h.Live, h.Goroutines, h.Files = h.Live+g.Live, h.Goroutines+g.Goroutines, h.Files+g.Files
		h.Sessions, h.Streams = h.Sessions+g.Sessions, g.Streams
		if quiet {
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
