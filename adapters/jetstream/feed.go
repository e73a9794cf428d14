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

// ErrRewound ends a Follow whose events are not in the log any more: an older backup of the
// database was restored under it. What was built from them must be loaded afresh.
var ErrRewound = errors.New("the log was rewound")

// FeedConfig says where a feed reads.
type FeedConfig struct {
	Store  eventstore.Store // required
	Conn   *nats.Conn       // required; may be disconnected
	Logger *slog.Logger     // nil: silent
	Batch  int              // most events handed over at a time; 0: 500
	Poll   time.Duration    // how often to look at the log while the stream is silent; 0: one second
}

// Feed hands out the log's events soon after they are committed, from the stream while that is
// good and from the log while it is not.
type Feed struct {
	cfg FeedConfig
	log *slog.Logger
	js  jetstream.JetStream
}

const (
	// grace is how long the stream has to deliver what a hint announced.
	grace = 50 * time.Millisecond
	// retryAttach is how long a stream that could not be used is left alone; one that answers and
	// delivers nothing longer and longer, up to maxRetryAttach.
	retryAttach    = 300 * time.Millisecond
	maxRetryAttach = 10 * time.Second
)

// errSilent says that the stream does not deliver what is in the log.
var errSilent = errors.New("the stream is silent")

// NewFeed makes a feed for any number of followers.
func NewFeed(cfg FeedConfig) (*Feed, error) {
	cfg.Batch = cmp.Or(cfg.Batch, 500)
	cfg.Poll = cmp.Or(cfg.Poll, time.Second)
	js, err := jetstream.New(cfg.Conn, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	return &Feed{cfg: cfg, log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), js: js}, nil
}

// Follow calls fn with every event after a position, in order and each once, in batches that are
// as large as what is waiting. An error of fn ends it and is returned as it is; ErrRewound says
// that the log has lost events that fn was given. It returns nil when ctx ends, and outlives all
// troubles of NATS and Postgres.
func (f *Feed) Follow(ctx context.Context, after int64, fn func(ctx context.Context, events []eventstore.Event) error) error {
	fl := &follower{feed: f, fn: fn, at: after, hints: f.cfg.Store.Notifications(ctx)}
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
	hints    <-chan struct{}
	at       int64  // position of the last event handed over
	last     string // its id; "" before the first
}

// run takes turns: the stream while it can be used, the log while it cannot.
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
			fl.feed.log.DebugContext(ctx, "following the log without the stream", "position", fl.at, "err", err)
			quiet = true
		}
		if err = fl.fromLog(ctx, alone); fl.over(ctx, err) {
			return err
		}
	}
}

// over tells whether an error ends the Follow.
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

// anchor makes sure that the event at the present position is still the one handed over. From then
// on a rewind shows in the epoch of the stream's messages.
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

// stillThere compares the last event handed over with the log's at its position, nil for none.
func (fl *follower) stillThere(e *eventstore.Event) error {
	switch {
	case e == nil:
		return fmt.Errorf("event %d is gone: %w", fl.at, ErrRewound)
	case fl.last != "" && fl.last != e.ID:
		return fmt.Errorf("event %d is another one: %w", fl.at, ErrRewound)
	}
	fl.last = e.ID
	return nil
}

// fromLog follows the log for a while, waiting for hints.
func (fl *follower) fromLog(ctx context.Context, during time.Duration) error {
	end := time.NewTimer(during)
	defer end.Stop()
	for {
		if err := fl.catchUp(ctx); err != nil {
			if fl.over(ctx, err) {
				return err
			}
			fl.feed.log.WarnContext(ctx, "read the log", "position", fl.at, "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case _, ok := <-fl.hints:
			if !ok {
				fl.hints = nil
			}
		}
	}
}

// catchUp hands over all that the log holds after the present position, having made sure that
// the event at that position is still the one handed over.
func (fl *follower) catchUp(ctx context.Context) error {
	var batch []eventstore.Event
	expect := max(fl.at, 1)
	for e, err := range fl.feed.cfg.Store.ReadAll(ctx, expect-1) {
		if err != nil {
			return fmt.Errorf("read the log after %d: %w", expect-1, err)
		}
		if e.Position != expect {
			return fmt.Errorf("read the log: position %d where %d belongs", e.Position, expect)
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

// fromStream follows the stream until something about it is wrong, which its error says.
func (fl *follower) fromStream(ctx context.Context, src *source) error {
	look := time.NewTicker(fl.feed.cfg.Poll)
	defer look.Stop()
	var late <-chan time.Time // fires when the stream has not delivered what a hint announced
	// missing reads what the stream did not deliver, and tells whether it was silent for long.
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
		case _, ok := <-fl.hints:
			switch {
			case !ok:
				fl.hints = nil
			case late == nil && time.Since(src.arrived) > grace:
				late = time.After(grace)
			case late == nil: // it announced what has just arrived, or the first that does not
				late = time.After(4 * grace)
			}
		case <-late:
			late = nil
			src.late++
			if err := missing(src.late >= 3); err != nil {
				return err
			}
		case <-look.C:
			// A busy stream is looked at now and then, a silent one always.
			if looked++; time.Since(src.arrived) <= fl.feed.cfg.Poll && looked%5 != 0 {
				continue
			}
			if err := missing(true); err != nil {
				return err
			}
		}
	}
}
