package jetstream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// ErrUnavailable says that an operation needs NATS, which does not answer.
var ErrUnavailable = &domain.Error{Kind: domain.Unavailable, Code: "coordination_unavailable", Msg: "A required service is unavailable; try again in a few seconds."}

// errMoved says that another replica wrote the key in between.
var errMoved = errors.New("written by another replica")

// bucketPatience bounds one call to a bucket: a user waits for it.
const bucketPatience = time.Second

// bucket is a key-value bucket whose entries expire. NATS holds it in memory; the bucket is created when
// it is missing, also after a wipe. Keys are hashed, so that NATS never sees their text.
type bucket struct {
	conn     *nats.Conn
	name     string
	prefix   string // of the keys; "" for a bucket's first use
	ttl      time.Duration
	replicas int   // 0: as many as the cluster's size allows, 1 or 3
	maxBytes int64 // 0: no limit

	mu     sync.Mutex
	kv     jetstream.KeyValue // nil: not open
	opened time.Time          // when kv was last opened
}

// get returns the value and its revision; nil and 0 where there is none.
func (b *bucket) get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	err = b.do(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		e, err := kv.Get(ctx, b.key(key))
		if errors.Is(err, jetstream.ErrKeyNotFound) { // or deleted
			return nil
		}
		if err == nil {
			value, revision = e.Value(), e.Revision()
		}
		return err
	})
	return value, revision, err
}

// put writes the value and overwrites any other.
func (b *bucket) put(ctx context.Context, key string, value []byte) (revision uint64, err error) {
	err = b.do(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		revision, err = kv.Put(ctx, b.key(key), value)
		return err
	})
	return revision, err
}

// replace writes the value only if the key is at a revision, 0 for no value; else it returns errMoved.
func (b *bucket) replace(ctx context.Context, key string, value []byte, over uint64) (revision uint64, err error) {
	err = b.do(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		if over == 0 {
			revision, err = kv.Create(ctx, b.key(key), value)
		} else {
			revision, err = kv.Update(ctx, b.key(key), value, over)
		}
		return err
	})
	return revision, err
}

// remove deletes the key only if it is at a revision; else it returns errMoved.
func (b *bucket) remove(ctx context.Context, key string, revision uint64) error {
	return b.do(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		return kv.Delete(ctx, b.key(key), jetstream.LastRevision(revision))
	})
}

// removeOurs deletes the key while its entry is ours: the one at a revision, or one of which our write had no answer. NATS may
// have made that all the same. Where the entry is another replica's, it stays, and that is no error.
func (b *bucket) removeOurs(ctx context.Context, key string, revision uint64, ours func(value []byte) bool) error {
	err := errMoved
	if revision != 0 {
		err = b.remove(ctx, key, revision)
	}
	for tries := 0; errors.Is(err, errMoved) && tries < 3; tries++ {
		value, at, lookErr := b.get(ctx, key)
		if lookErr != nil || at == 0 || !ours(value) {
			return lookErr
		}
		err = b.remove(ctx, key, at)
	}
	return err
}

// finally makes a call that is the last one for an entry, after ctx has ended: again while it fails and NATS is there, for at
// most three times the usual patience. Otherwise the entry stays until it expires.
func (b *bucket) finally(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*bucketPatience)
	defer cancel()
	for {
		err := call(ctx)
		if err == nil || !b.conn.IsConnected() || retry.Sleep(ctx, bucketPatience/20) != nil {
			return err
		}
	}
}

// do runs a call on the bucket. If the call fails, do opens or creates the bucket and tries once more.
func (b *bucket) do(ctx context.Context, call func(context.Context, jetstream.KeyValue) error) error {
	if !b.conn.IsConnected() {
		return fmt.Errorf("bucket %s: %w: %w", b.name, ErrUnavailable, errAway)
	}
	ctx, cancel := context.WithTimeout(ctx, bucketPatience)
	defer cancel()
	for try := 0; ; try++ {
		kv, err := b.open(ctx)
		if err == nil {
			err = call(ctx, kv)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, jetstream.ErrKeyExists), errors.Is(err, jetstream.ErrKeyRevisionMismatch), wrongSequence(err):
			return errMoved
		case try == 0 && ctx.Err() == nil && !full(err):
			b.forget(kv) // most likely the bucket was wiped
		default:
			return fmt.Errorf("bucket %s: %w: %w", b.name, ErrUnavailable, err)
		}
	}
}

// full reports whether a bucket is full: 10077 is nats-server's code for a stream at its limit.
func full(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == 10077
}

func (b *bucket) open(ctx context.Context) (jetstream.KeyValue, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kv != nil {
		return b.kv, nil
	}
	js, err := jetstream.New(b.conn, jetstream.WithDefaultTimeout(bucketPatience))
	if err != nil {
		return nil, err
	}
	if err := b.arrange(ctx, js); err != nil {
		return nil, err
	}
	b.kv, err = js.KeyValue(ctx, b.name)
	b.opened = time.Now()
	return b.kv, err
}

// arrange creates the bucket's stream, or updates one with other settings. A stream that cannot be
// updated now is used as it is.
func (b *bucket) arrange(ctx context.Context, js jetstream.JetStream) error {
	info, err := streamInfo(ctx, js, b.stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = inTurn(b.replicas, 0, func(replicas int) error {
			_, err := js.CreateStream(ctx, b.config(replicas))
			return err
		})
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil // another replica was faster
		}
		return err
	}
	if err != nil {
		return err
	}
	_ = inTurn(b.replicas, info.Config.Replicas, func(replicas int) error {
		want := b.config(replicas)
		if sameBucket(info.Config, want) {
			return nil
		}
		want.Metadata = info.Config.Metadata
		_, err := js.UpdateStream(ctx, want)
		return err
	})
	return nil
}

func (b *bucket) stream() string { return "KV_" + b.name }

// subjects match the messages of all keys with a prefix.
func (b *bucket) subjects() string { return b.subjectPrefix() + b.prefix + "*" }

// subjectPrefix stands before the key in a message's subject.
func (b *bucket) subjectPrefix() string { return "$KV." + b.name + "." }

// key returns a key as the bucket has it.
func (b *bucket) key(key string) string { return b.prefix + hashed(key) }

// config is a key-value bucket as NATS's own clients create one, but without direct gets: any replica of
// the stream may answer those, and one that is behind misses the latest writes.
func (b *bucket) config(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: b.stream(), Subjects: []string{"$KV." + b.name + ".>"}, Storage: jetstream.MemoryStorage, Replicas: replicas,
		MaxMsgsPerSubject: 1, MaxMsgs: -1, MaxConsumers: -1, MaxBytes: cmp.Or(b.maxBytes, -1), MaxAge: b.ttl, MaxMsgSize: 4 << 10,
		AllowRollup: true, DenyDelete: true, AllowDirect: false, Discard: jetstream.DiscardNew, Duplicates: min(b.ttl, 2*time.Minute),
	}
}

func sameBucket(have, want jetstream.StreamConfig) bool {
	return have.Replicas == want.Replicas && have.MaxAge == want.MaxAge && have.MaxBytes == want.MaxBytes &&
		have.MaxMsgSize == want.MaxMsgSize && have.AllowDirect == want.AllowDirect && have.Duplicates == want.Duplicates
}

// reopen makes the next use compare the bucket with its settings, if that was done long ago.
func (b *bucket) reopen() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kv != nil && time.Since(b.opened) > replicateEvery {
		b.kv = nil
	}
}

// reset makes the next use open or create the bucket.
func (b *bucket) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kv = nil
}

func (b *bucket) forget(kv jetstream.KeyValue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kv == kv {
		b.kv = nil
	}
}

func hashed(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// parse reads a bucket's value strictly. It must be exactly what we write: others may have found a way
// to write there.
func parse[T any](value []byte) (T, error) {
	var v T
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	err := d.Decode(&v)
	return v, err
}
