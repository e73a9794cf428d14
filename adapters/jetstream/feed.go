package jetstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// ErrRewound ends a Follow whose events are no longer in the log: an older backup of the database was
// restored. Rebuild everything that was built from those events.
var ErrRewound = errors.New("the log was rewound")

// FeedConfig configures a feed.
type FeedConfig struct {
	Store  eventstore.Store // required
	Conn   *nats.Conn       // required; may be disconnected
	Logger *slog.Logger     // nil: silent
	Batch  int              // most events in a batch; 0: 500
	Poll   time.Duration    // how often to read the log while the stream is silent; 0: one second
}

// Feed delivers the log's events soon after they are committed: from the stream while that works, else
// from the log.
type Feed struct {
	cfg FeedConfig
	log *slog.Logger
	js  jetstream.JetStream
}

const (
	// grace is how long the stream may take to deliver what a notification announced.
	grace = 50 * time.Millisecond
	// retryAttach is the pause before the next try to use the stream. For a stream that answers but delivers
	// nothing, the pause doubles each time, up to maxRetryAttach.
	retryAttach    = 300 * time.Millisecond
	maxRetryAttach = 10 * time.Second
)

// errSilent says that the stream does not deliver the events of the log.
var errSilent = errors.New("the stream is silent")

// NewFeed returns a feed for any number of followers.
func NewFeed(cfg FeedConfig) (*Feed, error) {
	cfg.Batch = cmp.Or(cfg.Batch, 500)
	cfg.Poll = cmp.Or(cfg.Poll, time.Second)
	js, err := jetstream.New(cfg.Conn, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	return &Feed{cfg: cfg, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), js: js}, nil
}

// Follow calls fn with every event after a position, in order and each once, in batches of all events that
// are waiting. An error of fn ends it and is returned unchanged; ErrRewound says that the log has lost
// events that fn was given. Follow returns nil when ctx ends, and retries after all failures of NATS and
// Postgres.
func (f *Feed) Follow(ctx context.Context, after int64, fn func(ctx context.Context, events []eventstore.Event) error) error {
	fl := &follower{feed: f, fn: fn, at: after, notified: f.cfg.Store.Notifications(ctx)}
	err := fl.run(ctx)
	if ctx.Err() != nil && !fl.fnFailed {
		return nil
	}
	return err
}

// follower is one Follow.
type follower struct {
	feed     *Feed
	fn       func(context.Context, []eventstore.Event) error
	fnFailed bool
	notified <-chan struct{}
	at       int64  // position of the last event given to fn
	last     string // its id; "" before the first
}

// run follows the stream while it can be used, else the log.
func (fl *follower) run(ctx context.Context) error {
	alone := retryAttach
	for quiet := false; ; {
		src, err := fl.feed.attach(ctx, fl.at)
		if err == nil {
			quiet = false
			if err = fl.anchor(ctx); err == nil {
				err = fl.fromStream(ctx, src)
			}
			src.close()
			if errors.Is(err, errSilent) && src.arrived.Equal(src.since) {
				alone = min(2*alone, maxRetryAttach)
			} else {
				alone = retryAttach
			}
		}
		if fl.over(ctx, err) {
			return err
		}
		if !quiet {
			fl.feed.log.DebugContext(ctx, "stream unusable, log followed instead", "position", fl.at, "err", err)
			quiet = true
		}
		if err = fl.fromLog(ctx, alone); fl.over(ctx, err) {
			return err
		}
	}
}

// over reports whether an error ends the Follow.
func (fl *follower) over(ctx context.Context, err error) bool {
	return ctx.Err() != nil || fl.fnFailed || errors.Is(err, ErrRewound)
}

// hand gives a batch to fn.
func (fl *follower) hand(ctx context.Context, batch []eventstore.Event) error {
	if len(batch) == 0 {
		return nil
	}
	if err := fl.fn(ctx, batch); err != nil {
		fl.fnFailed = true
		return err
	}
	e := batch[len(batch)-1]
	fl.at, fl.last = e.Position, e.ID
	return nil
}

// anchor makes sure that the event at the current position is still the one given to fn. From then on a
// rewind is visible in the epoch of the stream's messages.
func (fl *follower) anchor(ctx context.Context) error {
	if fl.at < 1 {
		return nil
	}
	e, err := eventAt(ctx, fl.feed.cfg.Store, fl.at)
	if err != nil {
		return err
	}
	return fl.stillThere(e)
}

// stillThere compares the last event given to fn with the log's event at its position; nil: there is none.
func (fl *follower) stillThere(e *eventstore.Event) error {
	switch {
	case e == nil:
		return fmt.Errorf("event %d is missing: %w", fl.at, ErrRewound)
	case fl.last != "" && fl.last != e.ID:
		return fmt.Errorf("event %d was replaced: %w", fl.at, ErrRewound)
	}
	fl.last = e.ID
	return nil
}

// fromLog follows the log for a while, waiting for notifications.
func (fl *follower) fromLog(ctx context.Context, during time.Duration) error {
	end := time.NewTimer(during)
	defer end.Stop()
	for {
		if err := fl.catchUp(ctx); err != nil {
			if fl.over(ctx, err) {
				return err
			}
			fl.feed.log.WarnContext(ctx, "reading the log failed, will retry", "position", fl.at, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case _, ok := <-fl.notified:
			if !ok {
				fl.notified = nil
			}
		}
	}
}

// catchUp gives fn all events of the log after the current position. It first makes sure that the event at
// that position is still the one given to fn.
func (fl *follower) catchUp(ctx context.Context) error {
	var batch []eventstore.Event
	expect := max(fl.at, 1)
	for e, err := range fl.feed.cfg.Store.ReadAll(ctx, expect-1) {
		if err != nil {
			return fmt.Errorf("read the log after %d: %w", expect-1, err)
		}
		if e.Position != expect {
			return fmt.Errorf("read the log: got position %d, want %d", e.Position, expect)
		}
		expect++
		if e.Position == fl.at {
			if err := fl.stillThere(&e); err != nil {
				return err
			}
			continue
		}
		if batch = append(batch, e); len(batch) >= fl.feed.cfg.Batch {
			if err := fl.hand(ctx, batch); err != nil {
				return err
			}
			batch = nil
		}
	}
	if expect <= fl.at {
		return fl.stillThere(nil)
	}
	return fl.hand(ctx, batch)
}

// fromStream follows the stream until it fails, and returns the reason.
func (fl *follower) fromStream(ctx context.Context, src *source) error {
	look := time.NewTicker(fl.feed.cfg.Poll)
	defer look.Stop()
	var late <-chan time.Time // fires when the stream has not delivered what a notification announced
	// missing reads the events that the stream did not deliver; its error is errSilent if there were some and the
	// stream has been silent for long.
	missing := func(silent bool) error {
		before := fl.at
		if err := fl.catchUp(ctx); err != nil {
			return err
		}
		if fl.at > before && silent && time.Since(src.arrived) > fl.feed.cfg.Poll {
			return errSilent
		}
		return nil
	}
	for looked := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-src.trouble:
			return err
		case <-src.status:
			return errAway
		case m := <-src.messages:
			if err := fl.take(ctx, src, m); err != nil {
				return err
			}
			late = nil
		case _, ok := <-fl.notified:
			switch {
			case !ok:
				fl.notified = nil
			case late == nil && time.Since(src.arrived) > grace:
				late = time.After(grace)
			case late == nil: // it announced the event that just arrived, or the first one that is late
				late = time.After(4 * grace)
			}
		case <-late:
			late = nil
			src.late++
			if err := missing(src.late >= 3); err != nil {
				return err
			}
		case <-look.C:
			// A busy stream is checked at every fifth tick, a silent one at each.
			if looked++; time.Since(src.arrived) <= fl.feed.cfg.Poll && looked%5 != 0 {
				continue
			}
			if err := missing(true); err != nil {
				return err
			}
		}
	}
}
