package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// NATS may fail the control plane in two ways. It can be unreachable or slow: that passes, and commands and
// queries work meanwhile. Or its configuration prevents its work permanently: Unable recognises such an
// error. A server that started with it would offer desktops that users could not reach.

// The errors of the second kind. Their sentences contain no secrets.
var (
	errNoJetStream = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses JetStream, which replicas need to share limits and to reach desktops: it is not enabled on the server. Start the server with -js, or with jetstream {} in its configuration."}
	errNoJetStreamForAccount = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses JetStream, which replicas need to share limits and to reach desktops: it is not enabled for the account of NATS_URL's user. Enable it there, or use another user."}
	errNoRights = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses a subject that this server must publish to: allow NATS_URL's user $JS.API.>, $KV.>, cloudbot.events.>, cloudbot.presence and _INBOX.>."}
	errNoUser = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses NATS_URL's user: use the right name and password."}
	errNoRoom = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses to create a stream: its limits on JetStream's memory, storage or number of streams are too low. Allow 128 MB of memory and five streams."}
	errNoCluster = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses NATS_REPLICAS: it is a single server, or has no limits for so many replicas. Set NATS_REPLICAS to 0, which follows the cluster's size, or to 1."}
)

// Unable reports whether err means that NATS cannot work until its configuration changes, and returns the
// sentence that says what NATS refuses and why.
func Unable(err error) (sentence string, yes bool) {
	var e *domain.Error
	if errors.As(err, &e) && e.Code == errNoRoom.Code {
		return e.Msg, true
	}
	return "", false
}

// explain wraps a call's error in the matching error of the second kind, if there is one. making says that the
// call was to create a stream or a bucket: without it nothing works, while a full one still works in part.
func explain(conn *nats.Conn, err error, making bool) error {
	var api *jetstream.APIError
	errors.As(err, &api)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w (%w)", errNoJetStream, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%w (%w)", errNoJetStreamForAccount, err)
	case making && api != nil && noReplicas[api.ErrorCode]:
		return fmt.Errorf("%w (%w)", errNoCluster, err)
	case making && api != nil && tooLow[api.ErrorCode]:
		return fmt.Errorf("%w (%w)", errNoRoom, err)
	case api == nil && conn.IsConnected() && lacksRights(conn.LastError()):
		// The server reports it on the connection; the call itself gets no answer.
		return fmt.Errorf("%w (%w)", errNoRights, conn.LastError())
	}
	return err
}

// lacksRights reports whether the server refused a subject that we need. The connection remembers a refusal
// until it reconnects: an earlier refusal of another subject must not explain a slow answer.
func lacksRights(err error) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	for _, subject := range []string{"$JS.API.", "$KV.", SubjectPrefix, nats.InboxPrefix} {
		if strings.Contains(err.Error(), `"`+subject) {
			return true
		}
	}
	return false
}

// tooLow lists the server's codes for limits that allow no further stream.
var tooLow = map[jetstream.ErrorCode]bool{
	10002: true, // the account's resources
	10023: true, // insufficient resources
	10027: true, // number of streams
	10028: true, // memory
	10047: true, // storage
	10074: true, // replicas that a single server does not have
	10120: true, // no tier for as many replicas
}

// noReplicas lists those of them that concern the number of replicas.
var noReplicas = map[jetstream.ErrorCode]bool{10074: true, 10120: true}

// away returns why there is no connection; nil: there is one. While it reconnects, a connection forgets why
// the last try failed, so away looks several times.
func away(ctx context.Context, conn *nats.Conn) error {
	for range 10 {
		switch err := conn.LastError(); {
		case conn.IsConnected():
			return nil
		case conn.Opts.InProcessServer != nil:
			return errAway // it is starting; its user is ours
		case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
			return fmt.Errorf("%w (%w)", errNoUser, err)
		}
		if retry.Sleep(ctx, 20*time.Millisecond) != nil {
			break
		}
	}
	return errAway
}

// Able returns nil if NATS can do what the server needs, as far as a client can find out: JetStream is
// enabled, and its rights and limits allow a stream like ours. It leaves no stream behind.
func Able(ctx context.Context, conn *nats.Conn, limits StreamLimits) error {
	if err := away(ctx, conn); err != nil {
		return err
	}
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return err
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		return explain(conn, fmt.Errorf("look for JetStream: %w", err), false)
	}
	if _, err := js.Stream(ctx, StreamName); !errors.Is(err, jetstream.ErrStreamNotFound) {
		return explain(conn, err, false)
	}
	// The relay creates the real stream; this one is like it but takes no events.
	name := "CLOUDBOT_TRIAL_" + nats.NewInbox()[7:]
	err = inTurn(limits.Replicas, 0, func(replicas int) error {
		trial := limits.Config(0, 0, replicas)
		trial.Name, trial.Subjects, trial.DenyDelete, trial.DenyPurge = name, nil, false, false
		_, err := js.CreateStream(ctx, trial)
		return err
	})
	if err != nil {
		return explain(conn, fmt.Errorf("create a stream: %w", err), true)
	}
	return js.DeleteStream(ctx, name)
}

// StreamProbe checks that the stream takes messages and that the relay fills it.
type StreamProbe struct {
	conn *nats.Conn
	// head returns the log's last position.
	head func(context.Context) (int64, error)

	mu    sync.Mutex
	last  uint64
	moved time.Time // when last changed, or nothing was waiting to be relayed
}

// NewStreamProbe returns a probe of the stream on a connection.
func NewStreamProbe(conn *nats.Conn, head func(context.Context) (int64, error)) *StreamProbe {
	return &StreamProbe{conn: conn, head: head, moved: time.Now()}
}

// relayPatience is how long events may wait for the relay: another replica may have to take its lease first.
const relayPatience = 15 * time.Second

// Publish publishes a message that must follow an impossible number. The refusal shows that the stream has
// a leader that takes messages, and nothing is stored.
func (p *StreamProbe) Publish(ctx context.Context) error {
	if err := away(ctx, p.conn); err != nil {
		return err
	}
	js, err := jetstream.New(p.conn, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return err
	}
	_, err = js.PublishMsg(ctx, &nats.Msg{Subject: SubjectPrefix + "probe"}, jetstream.WithExpectStream(StreamName),
		jetstream.WithExpectLastSequence(math.MaxInt64), jetstream.WithRetryAttempts(0))
	switch {
	case wrongSequence(err):
		return nil
	case err == nil:
		return errors.New("the stream took a message that it should have refused")
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		// No stream answers for the subject: either the stream is missing, or JetStream.
		if _, asked := js.AccountInfo(ctx); asked != nil {
			err = asked
		}
	}
	return explain(p.conn, fmt.Errorf("publish: %w", err), false)
}

// Relayed returns nil if events reach the stream: none waits, or the stream has grown recently, which takes a
// quorum. It looks at the stream, so it works on every replica, not only on the one that relays.
func (p *StreamProbe) Relayed(ctx context.Context) error {
	if err := away(ctx, p.conn); err != nil {
		return err
	}
	js, err := jetstream.New(p.conn, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return err
	}
	head, err := p.head(ctx)
	if err != nil {
		return err
	}
	info, err := streamInfo(ctx, js, StreamName)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return explain(p.conn, err, false)
	}
	var last uint64
	if err == nil {
		last = info.State.LastSeq
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if last != p.last || head <= int64(last) {
		p.last, p.moved = last, time.Now()
	}
	if time.Since(p.moved) > relayPatience { // the same text each time, so that it is logged once
		return fmt.Errorf("the stream has ended at %d since %s while the log has grown", last, p.moved.UTC().Format(time.RFC3339))
	}
	return nil
}

// probeKey is a key for probes only. It is hashed like any other, replaced by each probe, and expires when
// probes end.
const probeKey = "probe"

// probe replaces the probe's entry, as the bucket's users replace theirs. At times it also compares the
// bucket with its settings.
func (b *bucket) probe(ctx context.Context) error {
	if err := away(ctx, b.conn); err != nil {
		return err
	}
	b.reopen()
	_, revision, err := b.get(ctx, probeKey)
	if err == nil {
		_, err = b.replace(ctx, probeKey, []byte(probeKey), revision)
	}
	if errors.Is(err, errMoved) {
		return nil // another replica's probe wrote it
	}
	return explain(b.conn, err, b.missing())
}

// look reads from the bucket, and at times compares it with its settings.
func (b *bucket) look(ctx context.Context) error {
	b.reopen()
	_, _, err := b.get(ctx, probeKey)
	return explain(b.conn, err, b.missing())
}

// missing reports whether the bucket could not be opened.
func (b *bucket) missing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kv == nil
}

// Probe returns nil if replicas can find one another's tunnels.
func (p *Presence) Probe(ctx context.Context) error {
	err := p.bucket.probe(ctx)
	if err == nil {
		err = p.heard.look(ctx)
	}
	return err
}
