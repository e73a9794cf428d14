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

// NATS may fail the control plane in two ways. It can be away or slow: that passes, and commands and
// queries go on meanwhile. Or it is set up so that it can never do its work: that is an error which
// Unable recognises, and a server that starts with it would promise desktops which no user gets to see.

// unable are the ways of the second kind. Their sentences may be told to anybody.
var (
	errNoJetStream = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses JetStream, which replicas need to share limits and to reach desktops: it is not enabled on the server. Start it with -js, or with jetstream {} in its configuration."}
	errNoJetStreamForAccount = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses JetStream, which replicas need to share limits and to reach desktops: it is not enabled for the account of NATS_URL's user. Enable it there, or give another user."}
	errNoRights = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses what the server has to publish: allow NATS_URL's user $JS.API.>, $KV.>, cloudbot.events.>, cloudbot.presence and _INBOX.>."}
	errNoUser = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses NATS_URL's user: give the right name and password."}
	errNoRoom = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses to make what the server keeps there: its limits on JetStream's memory, storage or number of streams are too low. Allow 128 MB of memory, and five streams."}
	errNoCluster = &domain.Error{Kind: domain.Unavailable, Code: "jetstream_unable",
		Msg: "NATS refuses NATS_REPLICAS: it is a single server, or has no limits for so many replicas. Set NATS_REPLICAS to 0, which follows the cluster's size, or to 1."}
)

// Unable returns the sentence that says what NATS refuses and why, where err means that it will not
// do its work before its configuration is changed.
func Unable(err error) (sentence string, yes bool) {
	var e *domain.Error
	if errors.As(err, &e) && e.Code == errNoRoom.Code {
		return e.Msg, true
	}
	return "", false
}

// explain finds the errors of the second kind among those of a call. making says that it was to make
// a stream or a bucket: what cannot be made is not there, while a full one still serves in part.
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
		// The server says so beside the call, which just gets no answer.
		return fmt.Errorf("%w (%w)", errNoRights, conn.LastError())
	}
	return err
}

// lacksRights tells whether the server refused a subject that is needed. The connection remembers it
// until it reconnects: where it refused another subject once, a slow answer must not be blamed on that.
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

// tooLow are the server's codes for limits that leave no room for another stream.
var tooLow = map[jetstream.ErrorCode]bool{
	10002: true, // of the account's resources
	10023: true, // insufficient resources
	10027: true, // number of streams
	10028: true, // memory
	10047: true, // storage
	10074: true, // replicas that a single server does not have
	10120: true, // no tier for as many replicas
}

// noReplicas are those of them that speak of the number of replicas.
var noReplicas = map[jetstream.ErrorCode]bool{10074: true, 10120: true}

// away tells why there is no connection: nil where there is one. A connection forgets why its last try
// failed while it makes the next: so it is looked at for a moment.
func away(ctx context.Context, conn *nats.Conn) error {
	for range 10 {
		switch err := conn.LastError(); {
		case conn.IsConnected():
			return nil
		case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
			return fmt.Errorf("%w (%w)", errNoUser, err)
		}
		if retry.Sleep(ctx, 20*time.Millisecond) != nil {
			break
		}
	}
	return errAway
}

// Able tells whether NATS can do what the server needs of it, as far as that can be told from outside:
// JetStream is there, with the rights and the room for a stream like ours. It leaves nothing behind.
func Able(ctx context.Context, conn *nats.Conn, limits StreamLimits) error {
	if err := away(ctx, conn); err != nil {
		return err
	}
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return err
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		return explain(conn, fmt.Errorf("ask for JetStream: %w", err), false)
	}
	if _, err := js.Stream(ctx, StreamName); !errors.Is(err, jetstream.ErrStreamNotFound) {
		return explain(conn, err, false)
	}
	// The relay makes the stream; here is one like it that takes no events.
	name := "CLOUDBOT_TRIAL_" + nats.NewInbox()[7:]
	err = inTurn(limits.Replicas, 0, func(replicas int) error {
		trial := limits.config(0, 0, replicas)
		trial.Name, trial.Subjects, trial.DenyDelete, trial.DenyPurge = name, nil, false, false
		_, err := js.CreateStream(ctx, trial)
		return err
	})
	if err != nil {
		return explain(conn, fmt.Errorf("make a stream: %w", err), true)
	}
	return js.DeleteStream(ctx, name)
}

// StreamProbe tries to publish.
type StreamProbe struct {
	conn *nats.Conn
	// head returns the log's last position.
	head func(context.Context) (int64, error)

	mu    sync.Mutex
	last  uint64
	moved time.Time // when last changed, or there was nothing to relay
}

// NewStreamProbe makes a probe of the stream on a connection.
func NewStreamProbe(conn *nats.Conn, head func(context.Context) (int64, error)) *StreamProbe {
	return &StreamProbe{conn: conn, head: head, moved: time.Now()}
}

// relayPatience is how long events may wait for the relay: its lease may have to change hands first.
const relayPatience = 15 * time.Second

// Publish publishes a message into the stream that must follow one which never is: the refusal shows
// that the stream has a leader who takes messages, and nothing is stored.
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
		return errors.New("the stream took a message that it should refuse")
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		// No stream answers for the subject: is it missing, or JetStream?
		if _, asked := js.AccountInfo(ctx); asked != nil {
			err = asked
		}
	}
	return explain(p.conn, fmt.Errorf("publish: %w", err), false)
}

// Relayed tells whether events reach the stream: none waits, or the stream has moved of late, which
// takes a quorum. It looks at the stream, so that any replica sees what the one that relays does.
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
	if time.Since(p.moved) > relayPatience { // the words stay the same meanwhile, so that they are logged once
		return fmt.Errorf("the stream stands at %d since %s, and the log goes on", last, p.moved.UTC().Format(time.RFC3339))
	}
	return nil
}

// probeKey is a key that nobody else uses: hashed like any other, replaced by each probe, and
// forgotten when they end.
const probeKey = "probe"

// probe writes as the bucket's users do: over what it finds. Now and then it also compares the bucket
// with what it should be.
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
		return nil // by another replica's probe
	}
	return explain(b.conn, err, b.missing())
}

// look reads from the bucket, and now and then compares it with what it should be.
func (b *bucket) look(ctx context.Context) error {
	b.reopen()
	_, _, err := b.get(ctx, probeKey)
	return explain(b.conn, err, b.missing())
}

// missing tells that the bucket could not be opened.
func (b *bucket) missing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kv == nil
}

// Probe tells whether replicas find one another's tunnels.
func (p *Presence) Probe(ctx context.Context) error {
	err := p.bucket.probe(ctx)
	if err == nil {
		err = p.heard.look(ctx)
	}
	return err
}
