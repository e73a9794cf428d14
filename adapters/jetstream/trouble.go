package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// trouble is what a relay has met since all was well. newTrouble returns none.
type trouble struct {
	wait    time.Duration // before the next try
	backoff retry.Backoff // of wait, after failures other than a refusal
	said    string        // the cause that was logged last: each is logged when it comes up
	refused int           // times in a row that the stream stood elsewhere
	at      int64         // where the stream stood at the last failure
	failed  int           // times that the stream failed while it stood there
	since   time.Time     // the first of these
	mended  int           // times that it was looked at or replaced
}

func newTrouble() trouble {
	return trouble{backoff: retry.Backoff{First: 50 * time.Millisecond, Max: 3 * time.Second}}
}

// manyRefusals are too many to come from another relay that was faster.
const manyRefusals = 50

// streamError is a failure of the stream itself, and not of the log or the connection.
type streamError struct{ err error }

func (e streamError) Error() string { return e.err.Error() }

func (e streamError) Unwrap() error { return e.err }

// over notes that all is well.
func (t *trouble) over(ctx context.Context, log *slog.Logger) {
	if t.said != "" {
		log.InfoContext(ctx, "relay works again")
	}
	*t = newTrouble()
}

// met notes a failure, and plans the next try.
func (t *trouble) met(ctx context.Context, log *slog.Logger, at int64, err error) {
	if errors.Is(err, errRefused) {
		t.refused++
		t.backoff.Reset()
		t.wait = rand.N(20*time.Millisecond) * time.Duration(1+t.refused/manyRefusals)
		if t.refused%manyRefusals != 0 {
			log.DebugContext(ctx, "relay refused", "position", at+1, "err", err)
			return
		}
	} else {
		t.wait = t.backoff.Next()
	}
	if errors.As(err, new(streamError)) {
		if at > 0 && at != t.at { // it takes messages, and is only slow
			t.at, t.failed = at, 0
		}
		if t.failed++; t.failed == 1 {
			t.since = time.Now()
		}
	}
	t.say(ctx, log, at, err)
}

// say logs a cause, unless it was the last one already.
func (t *trouble) say(ctx context.Context, log *slog.Logger, at int64, err error) {
	if err == nil {
		return
	}
	cause := err
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		cause = inner // the innermost has no position in it
	}
	if cause.Error() != t.said {
		t.said = cause.Error()
		log.WarnContext(ctx, "relay interrupted, will resume", "position", at, "err", err)
	}
}

// stuck tells whether the stream has failed so often, and for so long, at one position, that it is worth
// looking whether another would do.
func (t *trouble) stuck(patience time.Duration) bool {
	if t.failed < 3<<min(t.mended, 5) || time.Since(t.since) < 3*patience {
		return false
	}
	t.failed = 0
	t.mended++
	return true
}

// probeName is the stream that shows whether JetStream stores anything.
const probeName = StreamName + "_PROBE"

// mend replaces a stream that fails where another one does not: as after a full disk, from which a
// stream does not recover by itself. Nothing is lost by that, its messages are in the log.
func (r *Relay) mend(ctx context.Context) error {
	info, err := streamInfo(ctx, r.js, StreamName)
	if err != nil {
		return err
	}
	if err := r.probe(ctx); err != nil {
		return fmt.Errorf("JetStream stores nothing: %w", err)
	}
	epoch, agreed := epochOf(info.Config)
	_, err = r.replace(ctx, info, epoch, agreed, "it fails, and another stream does not")
	return err
}

// probe stores a message in a stream of its own, and takes both away.
func (r *Relay) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const subject = "$KV." + probeName + ".relay" // which the buckets' rights allow
	err := inTurn(r.cfg.Limits.Replicas, 0, func(replicas int) error {
		_, err := r.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: probeName, Description: "whether JetStream stores anything", Subjects: []string{subject},
			Storage: jetstream.FileStorage, Replicas: replicas, MaxMsgs: 1, MaxAge: time.Minute,
		})
		return err
	})
	if err != nil {
		return err
	}
	_, err = r.js.Publish(ctx, subject, make([]byte, 4<<10))
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer stop()
	return errors.Join(err, r.js.DeleteStream(end, probeName))
}
