package embedded

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	copiedStream = "EVENTS"
	// originKey holds, in the copy's metadata, the time at which the copied stream was created: a mirror of a stream
	// that was deleted and created again would contain old and new messages.
	originKey = "cloudbot.copy-of"
	copyEvery = time.Second
)

// keepCopy keeps a mirror of the stream in the account COPY, where readers follow it, until ctx ends.
func (n *NATS) keepCopy(ctx context.Context) error {
	var contexts [2]jetstream.JetStream
	for i, user := range []nats.Option{nats.UserInfo(controlUser, n.password), nats.UserInfo(copierUser, n.copier)} {
		// An inbox prefix of its own: messages to _INBOX in COPY reach the readers.
		conn, err := nats.Connect("", nats.InProcessServer(n), user, nats.MaxReconnects(-1), nats.CustomInboxPrefix("_COPIER"))
		if err != nil {
			return err
		}
		defer conn.Close()
		if contexts[i], err = jetstream.New(conn, jetstream.WithDefaultTimeout(natsPatience)); err != nil {
			return err
		}
	}
	for {
		if err := renewCopy(ctx, contexts[0], contexts[1]); err != nil && ctx.Err() == nil {
			n.log.DebugContext(ctx, "copying the stream for readers failed, will retry", "err", err)
		}
		if retry.Sleep(ctx, copyEvery) != nil {
			return nil
		}
	}
}

// renewCopy creates the mirror if there is none, or if it is of an earlier stream.
func renewCopy(ctx context.Context, control, to jetstream.JetStream) error {
	origin, err := control.Stream(ctx, copiedStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil // there is no stream yet
	}
	if err != nil {
		return err
	}
	info := origin.CachedInfo()
	made := info.Created.UTC().Format(time.RFC3339Nano)
	have, err := to.Stream(ctx, copiedStream)
	switch {
	case err == nil && have.CachedInfo().Config.Metadata[originKey] == made:
		return nil
	case err == nil:
		err = to.DeleteStream(ctx, copiedStream)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = nil
	}
	if err != nil {
		return err
	}
	metadata := map[string]string{originKey: made}
	maps.Copy(metadata, info.Config.Metadata) // includes the epoch
	_, err = to.CreateStream(ctx, jetstream.StreamConfig{
		Name: copiedStream, Description: "a copy of CloudBot's event log; message n is event n", Metadata: metadata,
		DenyDelete: true, DenyPurge: true, Compression: jetstream.S2Compression,
		Mirror: &jetstream.StreamSource{Name: copiedStream, External: &jetstream.ExternalStream{APIPrefix: "CONTROL.API", DeliverPrefix: "cloudbot.copy"}},
	})
	return err
}
