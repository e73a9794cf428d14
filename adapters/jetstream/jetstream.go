// Package jetstream contains all uses of NATS JetStream: the Relay copies the log to the stream EVENTS, a
// Feed follows the stream, and key-value buckets with a time to live hold rate limits and the replica
// that holds each tunnel.
//
// The one thing to know: all of it is a cache. Message n of the stream is event n of the log, so a
// follower that misses a message reads it from the log, and a wiped stream is refilled.
package jetstream

import (
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// StreamName is the stream's name, and SubjectPrefix what the subjects of its messages begin with.
const (
	StreamName    = "EVENTS"
	SubjectPrefix = "cloudbot.events."
)

// Keys of the stream's metadata. epochKey holds the epoch that its numbers belong to, agreedKey the last
// position at which that epoch and the one before agree.
const (
	epochKey  = "cloudbot.epoch"
	agreedKey = "cloudbot.agreed"
)

// callTimeout bounds one call to JetStream: every caller can continue without it.
const callTimeout = 2 * time.Second

// StreamLimits says how much of the log the stream keeps. Nothing in the control plane needs the
// stream to be complete, so an operator may cap it.
type StreamLimits struct {
	Replicas int           // 0: as many as the cluster's size allows, 1 or 3
	MaxBytes int64         // the oldest messages go first; 0: no limit
	MaxAge   time.Duration // 0: no limit
}

func (l StreamLimits) any() bool { return l.MaxBytes > 0 || l.MaxAge > 0 }

// Config returns the settings of the stream with an epoch.
func (l StreamLimits) Config(epoch int, agreed int64, replicas int) jetstream.StreamConfig {
	maxBytes := int64(-1)
	if l.MaxBytes > 0 {
		maxBytes = l.MaxBytes
	}
	return jetstream.StreamConfig{
		Name:        StreamName,
		Description: "CloudBot's event log; message n is event n",
		Subjects:    []string{SubjectPrefix + ">"},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxMsgs:     -1, MaxBytes: maxBytes, MaxAge: l.MaxAge, MaxConsumers: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1,
		Replicas: replicas,
		// Envelopes are much alike: compressed, they take a quarter. An existing stream compresses only what it stores after NATS's next
		// start (findings/nats-compression-waits-for-a-restart.sh).
		Compression: jetstream.S2Compression,
		// A replica that is behind may answer direct gets; the checks need the leader.
		AllowDirect: false,
		// Messages are refused by number, so the window by message id is not needed.
		Duplicates: time.Second,
		// The stream is only deleted as a whole: no code looks for the hole that a deleted message leaves.
		DenyDelete: true, DenyPurge: true,
		Metadata: map[string]string{epochKey: strconv.Itoa(epoch), agreedKey: strconv.FormatInt(agreed, 10)},
	}
}

// sameSettings reports whether a stream has the settings we want, apart from what the server adds.
func sameSettings(have, want jetstream.StreamConfig) bool {
	return have.MaxBytes == want.MaxBytes && have.MaxAge == want.MaxAge && have.MaxMsgs == want.MaxMsgs && have.MaxMsgSize == want.MaxMsgSize &&
		have.Replicas == want.Replicas && have.Discard == want.Discard && have.AllowDirect == want.AllowDirect && have.Compression == want.Compression &&
		have.DenyDelete && have.DenyPurge && len(have.Subjects) == 1 && have.Subjects[0] == want.Subjects[0]
}

// epochOf reads the epoch from a stream's metadata: 0 for a stream that we did not create.
func epochOf(c jetstream.StreamConfig) (epoch int, agreed int64) {
	epoch, _ = strconv.Atoi(c.Metadata[epochKey])
	agreed, _ = strconv.ParseInt(c.Metadata[agreedKey], 10, 64)
	return epoch, agreed
}

// withOurs adds our metadata to the server's own.
func withOurs(have, ours map[string]string) map[string]string {
	all := maps.Clone(have)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, ours)
	return all
}

// wrongSequence reports whether the server refused a message because of its number.
func wrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == wrongSequenceConstant)
}

// wrongSequenceConstant is the code of clustered servers for the same refusal
// (JSStreamWrongLastSequenceConstantErr).
const wrongSequenceConstant = 10164
