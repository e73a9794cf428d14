package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// agreement is the last known state in which the stream agreed with the log.
type agreement struct {
	created time.Time // distinguishes a stream from its successor
	epoch   int
	last    int64
}

// converge makes sure that the stream exists, belongs to the current epoch and contains only messages of
// the log, and returns where it ends. suspect is one more position to compare; 0: none.
func (r *Relay) converge(ctx context.Context, suspect int64) (agreement, error) {
	epoch, err := r.cfg.Epochs.Current(ctx)
	if err != nil {
		return agreement{}, err
	}
	info, err := streamInfo(ctx, r.js, StreamName)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return r.create(ctx, epoch, 0)
	}
	if err != nil {
		return agreement{}, err
	}
	// The head is read after the stream: a stream that is filled only from this log cannot be ahead of it.
	head, err := r.cfg.Store.Head(ctx)
	if err != nil {
		return agreement{}, err
	}
	last := int64(info.State.LastSeq)
	streamEpoch, agreed := epochOf(info.Config)
	switch {
	case streamEpoch < epoch:
		// A relay began the epoch and ended before it emptied the stream, or the stream is not ours.
		return r.replace(ctx, info, epoch, agreed, "a new epoch began")
	case streamEpoch > epoch:
		return r.begin(ctx, info, streamEpoch, min(last, head), "the database does not know the stream's epoch")
	case last > head:
		return r.begin(ctx, info, epoch, head, "the stream is ahead of the log")
	}
	for _, n := range []int64{last, suspect} {
		if n < 1 || n > last {
			continue
		}
		same, err := r.agrees(ctx, n, epoch)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			// A hole, which is found below, or a message that the limits removed.
		case err != nil:
			return agreement{}, err
		case !same:
			return r.begin(ctx, info, epoch, n, "the stream contains a message that the log does not")
		}
	}
	if holed(info, r.cfg.Limits) {
		return r.replace(ctx, info, epoch, agreed, "messages are missing")
	}
	if err := r.update(ctx, info, info.Config.Replicas); err != nil {
		return agreement{}, fmt.Errorf("update stream: %w", err)
	}
	r.replicate(ctx, info)
	return agreement{created: info.Created, epoch: epoch, last: last}, nil
}

// update sets the stream's settings to the configured ones, with a number of replicas.
func (r *Relay) update(ctx context.Context, info *jetstream.StreamInfo, replicas int) error {
	epoch, agreed := epochOf(info.Config)
	want := r.cfg.Limits.Config(epoch, agreed, replicas)
	if sameSettings(info.Config, want) {
		return nil
	}
	want.Metadata = withOurs(info.Config.Metadata, want.Metadata)
	_, err := r.js.UpdateStream(ctx, want)
	return err
}

// replicate sets the stream's number of replicas. If the cluster refuses, the stream continues with the
// number it has.
func (r *Relay) replicate(ctx context.Context, info *jetstream.StreamInfo) {
	r.replicated = time.Now()
	err := inTurn(r.cfg.Limits.Replicas, info.Config.Replicas, func(n int) error { return r.update(ctx, info, n) })
	if err != nil && !r.fewer {
		r.log.WarnContext(ctx, "changing the stream's replicas failed, will retry", "replicas", info.Config.Replicas, "err", err)
	}
	r.fewer = err != nil
}

// inspect checks the stream, which should end at position at.
func (r *Relay) inspect(ctx context.Context, st agreement, at int64) error {
	info, err := streamInfo(ctx, r.js, StreamName)
	if err != nil {
		return err
	}
	epoch, _ := epochOf(info.Config)
	if !info.Created.Equal(st.created) || epoch != st.epoch || int64(info.State.LastSeq) != at || holed(info, r.cfg.Limits) {
		return fmt.Errorf("check the stream: %w", errRefused)
	}
	if time.Since(r.replicated) > replicateEvery {
		r.replicate(ctx, info)
	}
	return nil
}

// holed reports whether messages are missing that the limits did not remove.
func holed(info *jetstream.StreamInfo, limits StreamLimits) bool {
	s := info.State
	switch {
	case s.NumDeleted > 0 || s.Lost != nil && len(s.Lost.Msgs) > 0:
		return true
	case s.LastSeq == 0:
		return false
	case s.Msgs == 0, s.FirstSeq > 1:
		return !limits.any() // limits remove the oldest, in order
	}
	return false
}

// begin starts a new epoch, because the stream's numbers are used up in the old one. hi is the highest
// position at which log and stream may agree.
func (r *Relay) begin(ctx context.Context, info *jetstream.StreamInfo, old int, hi int64, reason string) (agreement, error) {
	at := r.lastAgreed(ctx, hi, info)
	epoch, err := r.cfg.Epochs.Begin(ctx, old, reason, at)
	if err != nil {
		return agreement{}, err
	}
	r.log.WarnContext(ctx, "epoch begun", "epoch", epoch, "reason", reason, "agreed", at, "stream", info.State.LastSeq)
	return r.replace(ctx, info, epoch, at, reason)
}

// lastAgreed returns the last position, at most hi, at which log and stream agree. They agree up to some
// position and differ at all later ones.
func (r *Relay) lastAgreed(ctx context.Context, hi int64, info *jetstream.StreamInfo) int64 {
	epoch, _ := epochOf(info.Config)
	lo := max(int64(info.State.FirstSeq), 1)
	if hi < lo {
		return 0
	}
	n := sort.Search(int(hi-lo+1), func(i int) bool {
		same, err := r.agrees(ctx, lo+int64(i), epoch)
		return err != nil || !same
	})
	if n == 0 {
		return 0
	}
	return lo + int64(n) - 1
}

// replace deletes the stream and creates it again under an epoch, to be filled from 1.
func (r *Relay) replace(ctx context.Context, seen *jetstream.StreamInfo, epoch int, agreed int64, reason string) (agreement, error) {
	info, err := streamInfo(ctx, r.js, StreamName)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return agreement{}, err
	}
	if err == nil {
		if !info.Created.Equal(seen.Created) {
			return agreement{}, fmt.Errorf("replace stream: %w: another relay did it", errRefused)
		}
		r.log.WarnContext(ctx, "stream replaced", "reason", reason, "epoch", epoch, "stream", info.State.LastSeq)
		if err := r.js.DeleteStream(ctx, StreamName); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return agreement{}, fmt.Errorf("delete stream: %w", err)
		}
	}
	return r.create(ctx, epoch, agreed)
}

func (r *Relay) create(ctx context.Context, epoch int, agreed int64) (agreement, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var s jetstream.Stream
	err := inTurn(r.cfg.Limits.Replicas, 0, func(replicas int) (err error) {
		s, err = r.js.CreateStream(ctx, r.cfg.Limits.Config(epoch, agreed, replicas))
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return agreement{}, fmt.Errorf("create stream: %w: another relay did it", errRefused)
	}
	if err != nil {
		return agreement{}, fmt.Errorf("create stream: %w", err)
	}
	info := s.CachedInfo()
	r.log.InfoContext(ctx, "stream created", "epoch", epoch)
	return agreement{created: info.Created, epoch: epoch, last: int64(info.State.LastSeq)}, nil
}

// agrees reports whether message n is event n. The error is jetstream.ErrMsgNotFound if there is no message.
func (r *Relay) agrees(ctx context.Context, n int64, epoch int) (bool, error) {
	got, err := messageAt(ctx, r.js, n)
	if err != nil {
		return false, err
	}
	want, err := eventAt(ctx, r.cfg.Store, n)
	if err != nil {
		return false, err
	}
	return want != nil && same(got, *want, epoch), nil
}

// same reports whether a message is the envelope of an event, in an epoch.
func same(m *jetstream.RawStreamMsg, e eventstore.Event, epoch int) bool {
	v, err := ParseEnvelope(m.Data)
	return err == nil && v.Epoch == epoch && v.holds(e) && m.Subject == Subject(e) && int64(m.Sequence) == e.Position
}

// holds reports whether the envelope's event is the log's. Data that was left out is compared by its SHA-256.
func (v Envelope) holds(e eventstore.Event) bool {
	a := v.Event
	return a.Position == e.Position && a.ID == e.ID && a.Type == e.Type && a.Stream == e.Stream && a.Version == e.Version &&
		(v.LeftOut == "" && bytes.Equal(a.Data, e.Data) || v.LeftOut != "" && v.LeftOut == sum(e.Data))
}

// eventAt returns the log's event at a position, or nil if the log ends before it.
func eventAt(ctx context.Context, store eventstore.Store, n int64) (*eventstore.Event, error) {
	for e, err := range store.ReadAll(ctx, n-1) {
		if err != nil {
			return nil, fmt.Errorf("read event %d: %w", n, err)
		}
		if e.Position != n {
			return nil, fmt.Errorf("read event %d: got %d", n, e.Position)
		}
		return &e, nil
	}
	return nil, nil
}

// messageAt returns message n.
func messageAt(ctx context.Context, js jetstream.JetStream, n int64) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := js.Stream(ctx, StreamName)
	if err != nil {
		return nil, fmt.Errorf("message %d: %w", n, err)
	}
	m, err := s.GetMsg(ctx, uint64(n))
	if err != nil {
		return nil, fmt.Errorf("message %d: %w", n, streamError{err})
	}
	return m, nil
}

func streamInfo(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	return s.CachedInfo(), nil
}
