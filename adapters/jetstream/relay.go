package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// RelayConfig configures a relay.
type RelayConfig struct {
	Store       eventstore.Store // required
	Conn        *nats.Conn       // required
	Epochs      Epochs           // required
	Environment string           // goes into each envelope's source
	Limits      StreamLimits     // zero: the whole log
	Logger      *slog.Logger     // nil: silent
	Poll        time.Duration    // how often to look for events without a notification, and to check the stream; 0: one second
	Window      int              // messages without an acknowledgement at a time; 0: 2048
	Patience    time.Duration    // how long to wait for an acknowledgement; 0: 5 s
}

// Relay publishes the log to the stream, in order and under the log's own numbers. Each message names the
// number it must follow, so when two relays run, the server refuses one of them: that is harmless.
type Relay struct {
	cfg        RelayConfig
	log        *slog.Logger
	js         jetstream.JetStream
	fewer      bool      // the stream has fewer replicas than it should
	replicated time.Time // when the stream's number of replicas was last checked
	headRead   time.Time // when the log's head was last read
	stats      struct{ published, position, head, epoch atomic.Int64 }
}

// RelayStats holds figures for metrics.
type RelayStats struct {
	Published int64 // messages that the server acknowledged to this relay since its start
	Position  int64 // last position known to be in the stream
	Lag       int64 // events that are not in the stream yet: the log's head, at most a second old, less Position
	Epoch     int64
}

var (
	// errRefused says that the stream ends at another position than this relay expected.
	errRefused = errors.New("the stream ends at another position")
	// errAway says that NATS is not connected.
	errAway = errors.New("NATS is unreachable")
)

// NewRelay returns a relay; Run runs it.
func NewRelay(cfg RelayConfig) (*Relay, error) {
	cfg.Poll = cmp.Or(cfg.Poll, time.Second)
	cfg.Window = cmp.Or(cfg.Window, 2048)
	cfg.Patience = cmp.Or(cfg.Patience, 5*time.Second)
	js, err := jetstream.New(cfg.Conn, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return &Relay{cfg: cfg, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), js: js}, nil
}

// Stats returns the current figures.
func (r *Relay) Stats() RelayStats {
	s := RelayStats{Published: r.stats.published.Load(), Position: r.stats.position.Load(), Epoch: r.stats.epoch.Load()}
	s.Lag = max(r.stats.head.Load()-s.Position, 0)
	return s
}

// Run publishes until ctx ends and then returns nil. Call it while a lease is held; two running relays do
// no harm, because each checks what it finds in the stream against the log.
func (r *Relay) Run(ctx context.Context) error {
	notified := r.cfg.Store.Notifications(ctx)
	var suspect int64
	t := newTrouble()
	for {
		at, err := r.session(ctx, notified, suspect, func() { t.over(ctx, r.log) })
		if ctx.Err() != nil {
			return nil
		}
		r.headRead = time.Time{}
		r.readHead(ctx)
		if errors.Is(err, errRefused) {
			// Another relay published, or the stream was wiped. Look at the message in place of ours.
			suspect = at + 1
		}
		t.met(ctx, r.log, at, err)
		if t.stuck(r.cfg.Patience) {
			t.say(ctx, r.log, at, r.repair(ctx))
		}
		if retry.Sleep(ctx, t.wait) != nil {
			return nil
		}
	}
}

// readHead reads the log's head for Stats, at most once a second.
func (r *Relay) readHead(ctx context.Context) {
	if time.Since(r.headRead) < time.Second {
		return
	}
	r.headRead = time.Now()
	if head, err := r.cfg.Store.Head(ctx); err == nil {
		r.stats.head.Store(head)
	}
}

// session makes the stream agree with the log and keeps it so until something fails. It returns the last
// position known to be published. It calls well whenever everything is published.
func (r *Relay) session(ctx context.Context, notified <-chan struct{}, suspect int64, well func()) (int64, error) {
	if !r.cfg.Conn.IsConnected() {
		return r.stats.position.Load(), errAway
	}
	st, err := r.converge(ctx, suspect)
	if err != nil {
		return 0, err
	}
	r.stats.epoch.Store(int64(st.epoch))
	r.stats.position.Store(st.last)
	look := time.NewTicker(r.cfg.Poll)
	defer look.Stop()
	end := &tail{at: st.last}
	p, err := newPipe(r.cfg.Conn, r.cfg.Window, r.cfg.Patience)
	if err != nil {
		return end.at, err
	}
	defer p.close()
	for {
		if err := r.publish(ctx, p, end, st.epoch); err != nil {
			return end.at, err
		}
		r.stats.head.Store(end.at)
		well()
		select {
		case <-ctx.Done():
			return end.at, ctx.Err()
		case _, ok := <-notified:
			if !ok {
				notified = nil // ctx has ended, or the store stopped its notifications: the ticker remains
			}
		case <-look.C:
			if err := r.inspect(ctx, st, end.at); err != nil {
				return end.at, err
			}
		}
	}
}

// tail is the last event that the server has acknowledged.
type tail struct {
	at int64
	id string // "": not known yet
}

// publish copies the events after end, and advances end. It also reads the event at end again: if that is
// missing or another one, the log was rewound. The log is read ahead of what is sent, and so many messages as fit the window are
// sent before the first one is acknowledged.
func (r *Relay) publish(ctx context.Context, p *pipe, end *tail, epoch int) error {
	r.readHead(ctx)
	reading, stop := context.WithCancel(ctx)
	ahead := make(chan []outgoing, 2)
	var read error // set before ahead is closed
	var reader sync.WaitGroup
	defer reader.Wait()
	defer stop()
	from := *end
	reader.Go(func() {
		defer close(ahead)
		defer crash.Caught(&read)
		read = r.readAhead(reading, &from, epoch, ahead)
	})
	var next []outgoing
	for more := true; ; {
		for ; len(next) > 0 && len(p.flight) < r.cfg.Window && (p.bytes < windowBytes || len(p.flight) == 0); next = next[1:] {
			r.stats.head.Store(max(r.stats.head.Load(), next[0].at))
			if err := p.send(next[0]); err != nil {
				return err
			}
		}
		switch {
		case len(next) == 0 && len(p.flight) == 0:
			if next, more = <-ahead; !more { // the reader ends with ctx
				if end.id == "" {
					end.id = from.id
				}
				return read
			}
			continue
		case len(next) == 0 && more:
			select {
			case next, more = <-ahead:
				continue
			default:
			}
		}
		landed, err := p.land(ctx)
		if err != nil {
			return err
		}
		*end = landed
		r.stats.published.Add(1)
		r.stats.position.Store(end.at)
		r.readHead(ctx)
	}
}

const (
	windowBytes = 8 << 20   // messages without an acknowledgement at a time
	aheadEvents = 64        // a batch of the reader
	aheadBytes  = 256 << 10 // a batch ends with the message that reaches this size
)

// readAhead makes messages of the events after end, whose id it sets.
func (r *Relay) readAhead(ctx context.Context, end *tail, epoch int, ahead chan<- []outgoing) error {
	next := max(end.at, 1)
	var batch []outgoing
	size := 0
	hand := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case ahead <- batch:
			batch, size = nil, 0
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for e, err := range r.cfg.Store.ReadAll(ctx, next-1) {
		if err != nil {
			return errors.Join(hand(), fmt.Errorf("read the log after %d: %w", next-1, err))
		}
		if e.Position != next {
			return fmt.Errorf("read the log: got position %d, want %d", e.Position, next)
		}
		next++
		if e.Position == end.at {
			if end.id != "" && end.id != e.ID {
				return fmt.Errorf("event %d was replaced: %w", end.at, ErrRewound)
			}
			end.id = e.ID
			continue
		}
		o := outgoing{tail{e.Position, e.ID}, r.message(e, epoch)}
		batch = append(batch, o)
		if size += len(o.msg.Data); len(batch) == aheadEvents || size >= aheadBytes {
			if err := hand(); err != nil {
				return err
			}
		}
	}
	if next <= end.at {
		return fmt.Errorf("event %d is missing: %w", end.at, ErrRewound)
	}
	return hand()
}

// headerRoom is the part of a message that JetStream's own headers need.
const headerRoom = 1 << 10

// message returns the event as it is published. If it is too large for the server, the message goes without
// the data, which stays in the log: every event needs its number on the stream.
func (r *Relay) message(e eventstore.Event, epoch int) *nats.Msg {
	v := Envelope{Environment: r.cfg.Environment, Epoch: epoch, Event: e}
	msg := &nats.Msg{Subject: Subject(e), Header: nats.Header{"Content-Type": {ContentType}}, Data: v.Bytes()}
	room := int(r.cfg.Conn.MaxPayload() - headerRoom)
	if room <= 0 || len(msg.Data) <= room {
		return msg
	}
	r.log.Warn("event too large for a message, data left out", "position", e.Position, "type", e.Type, "bytes", len(msg.Data), "room", room)
	v = v.stub()
	if msg.Data = v.Bytes(); len(msg.Data) > room {
		v.Event.Meta = eventstore.Metadata{}
		msg.Data = v.Bytes()
	}
	msg.Header.Set(DataHeader, DataLeftOut)
	return msg
}
