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

// trouble records a relay's failures since it last worked. newTrouble returns an empty one.
type trouble struct {
	wait    time.Duration // before the next try
	backoff retry.Backoff // of wait, after failures other than a refusal
	said    string        // the cause that was logged last: a cause is logged when it changes
	refused int           // refusals in a row
	at      int64         // where the stream ended at the last failure
	failed  int           // failures of the stream while it ended there
	since   time.Time     // when the first of these was
	repairs int           // attempts to repair the stream
}

func newTrouble() trouble {
	return trouble{backoff: retry.Backoff{First: 50 * time.Millisecond, Max: 3 * time.Second}}
}

// manyRefusals are too many to be explained by another, faster relay.
const manyRefusals = 50

// streamError is a failure of the stream itself, not of the log or the connection.
type streamError struct{ err error }

func (e streamError) Error() string { return e.err.Error() }

func (e streamError) Unwrap() error { return e.err }

// over records that the relay works.
func (t *trouble) over(ctx context.Context, log *slog.Logger) {
	if t.said != "" {
		log.InfoContext(ctx, "relay resumed")
	}
	*t = newTrouble()
}

// met records a failure, and sets the wait before the next try.
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
		if at > 0 && at != t.at { // it accepts messages, and is only slow
			t.at, t.failed = at, 0
		}
		if t.failed++; t.failed == 1 {
			t.since = time.Now()
		}
	}
	t.say(ctx, log, at, err)
}

// say logs a cause unless it was logged last.
func (t *trouble) say(ctx context.Context, log *slog.Logger, at int64, err error) {
	if err == nil {
		return
	}
	cause := err
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		cause = inner // the innermost error contains no position
	}
	if cause.Error() != t.said {
		t.said = cause.Error()
		log.WarnContext(ctx, "relay interrupted, will resume", "position", at, "err", err)
	}
}

// stuck reports whether the stream has failed so often, and for so long, at one position that the relay
// should try a repair.
func (t *trouble) stuck(patience time.Duration) bool {
	if t.failed < 3<<min(t.repairs, 5) || time.Since(t.since) < 3*patience {
		return false
	}
	t.failed = 0
	t.repairs++
	return true
}

// probeName is a stream for testing whether JetStream stores messages.
const probeName = StreamName + "_PROBE"

// repair replaces a stream that fails if another stream works, as after a full disk: a stream does not
// recover from that. No message is lost, because the log has them all.
func (r *Relay) repair(ctx context.Context) error {
	info, err := streamInfo(ctx, r.js, StreamName)
	if err != nil {
		return err
	}
	if err := r.probe(ctx); err != nil {
		return fmt.Errorf("JetStream does not store messages: %w", err)
	}
	epoch, agreed := epochOf(info.Config)
	_, err = r.replace(ctx, info, epoch, agreed, "it fails although another stream works")
	return err
}

// probe stores a message in a stream of its own, and deletes both.
func (r *Relay) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const subject = "$KV." + probeName + ".relay" // covered by the buckets' rights
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
