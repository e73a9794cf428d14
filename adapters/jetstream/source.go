package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// source is a follower's consumer on the stream. It is usable until the stream or the connection
// changes.
type source struct {
	feed     *Feed
	epoch    int
	since    time.Time
	arrived  time.Time // when the last message arrived; equals since before the first
	late     int       // announced messages in a row that did not arrive in time
	name     string    // of the consumer
	consume  jetstream.ConsumeContext
	messages chan message
	trouble  chan error
	status   chan nats.Status
	closed   context.CancelFunc
}

// message is a message of the stream, or the error of reading it.
type message struct {
	number  int64
	epoch   int
	event   eventstore.Event
	leftOut bool // its data is only in the log
	err     error
}

// errStale says that the stream differs from the log, and that a relay has not repaired it yet.
var errStale = errors.New("the stream differs from the log")

// attach checks the stream against the log and creates a consumer that begins after a position.
func (f *Feed) attach(ctx context.Context, after int64) (*source, error) {
	if !f.cfg.Conn.IsConnected() {
		return nil, errAway
	}
	src := &source{
		feed: f, since: time.Now(), arrived: time.Now(),
		messages: make(chan message, f.cfg.Batch), trouble: make(chan error, 1),
		status: f.cfg.Conn.StatusChanged(nats.DISCONNECTED, nats.RECONNECTING, nats.CLOSED),
	}
	var during context.Context
	during, src.closed = context.WithCancel(ctx)
	if err := src.open(ctx, during, after); err != nil {
		src.close()
		return nil, err
	}
	return src, nil
}

func (s *source) open(ctx, during context.Context, after int64) error {
	var err error
	if s.epoch, err = s.feed.validate(ctx); err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	consumer, err := s.feed.js.CreateConsumer(call, StreamName, jetstream.ConsumerConfig{
		Description:       "a follower of the control plane",
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       uint64(after + 1),
		AckPolicy:         jetstream.AckNonePolicy, // lost messages are read from the log
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("follow the stream: %w", err)
	}
	s.name = consumer.CachedInfo().Name
	deliver := func(m jetstream.Msg) {
		select {
		case s.messages <- read(m):
		case <-during.Done():
		}
	}
	report := func(_ jetstream.ConsumeContext, err error) {
		select {
		case s.trouble <- fmt.Errorf("follow the stream: %w", err):
		default: // one error is enough
		}
	}
	s.consume, err = consumer.Consume(deliver, jetstream.ConsumeErrHandler(report),
		jetstream.PullMaxMessagesWithBytesLimit(s.feed.cfg.Batch, 8<<20),
		jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(500*time.Millisecond))
	if err != nil {
		return fmt.Errorf("follow the stream: %w", err)
	}
	return nil
}

// validate makes sure that the stream is a prefix of the log, and returns its epoch.
func (f *Feed) validate(ctx context.Context) (int, error) {
	info, err := streamInfo(ctx, f.js, StreamName)
	if err != nil {
		return 0, err
	}
	epoch, _ := epochOf(info.Config)
	last := int64(info.State.LastSeq)
	if epoch == 0 {
		return 0, errStale
	}
	if info.State.Msgs == 0 {
		head, err := f.cfg.Store.Head(ctx)
		if err == nil && head < last {
			err = errStale
		}
		return epoch, err
	}
	m, err := messageAt(ctx, f.js, last)
	if err != nil {
		return 0, err
	}
	e, err := eventAt(ctx, f.cfg.Store, last)
	if err != nil {
		return 0, err
	}
	if e == nil || !same(m, *e, epoch) {
		return 0, errStale
	}
	return epoch, nil
}

// close deletes the consumer. If that fails, the server removes it after its inactive threshold.
func (s *source) close() {
	s.closed()
	s.feed.cfg.Conn.RemoveStatusListener(s.status)
	if s.consume != nil {
		s.consume.Stop()
	}
	if s.name != "" && s.feed.cfg.Conn.IsConnected() {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout/4)
		defer cancel()
		_ = s.feed.js.DeleteConsumer(ctx, StreamName, s.name)
	}
}

func read(m jetstream.Msg) message {
	meta, err := m.Metadata()
	if err != nil {
		return message{err: fmt.Errorf("message: %w", err)}
	}
	v, err := ParseEnvelope(m.Data())
	if err == nil && v.Event.Position != int64(meta.Sequence.Stream) {
		err = fmt.Errorf("it contains position %d", v.Event.Position)
	}
	if err != nil {
		err = fmt.Errorf("message %d: %w", meta.Sequence.Stream, err)
	}
	return message{number: int64(meta.Sequence.Stream), epoch: v.Epoch, event: v.Event, leftOut: v.LeftOut != "", err: err}
}

// take gives fn a message and those waiting behind it. Events that are missing before one of them are read
// from the log.
func (fl *follower) take(ctx context.Context, src *source, m message) error {
	var batch []eventstore.Event
	src.arrived, src.late = time.Now(), 0
	for at := fl.at; ; {
		switch {
		case m.err != nil || m.epoch != src.epoch:
			if err := fl.hand(ctx, batch); err != nil {
				return err
			}
			return errors.Join(errStale, m.err)
		case m.number <= at:
			// fn has it already.
		case m.number > at+1 || m.leftOut:
			if err := fl.hand(ctx, batch); err != nil {
				return err
			}
			if err := fl.catchUp(ctx); err != nil {
				return err
			}
			if fl.at < m.number {
				return errStale // the log has no such event
			}
			batch, at = nil, fl.at
		default:
			batch, at = append(batch, m.event), m.number
		}
		if len(batch) >= fl.feed.cfg.Batch {
			return fl.hand(ctx, batch)
		}
		select {
		case m = <-src.messages:
			continue
		default:
		}
		return fl.hand(ctx, batch)
	}
}
