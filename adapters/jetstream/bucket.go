package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/domain"
)

// ErrUnavailable says that NATS is needed for this and is not there.
var ErrUnavailable = &domain.Error{Kind: domain.Unavailable, Code: "coordination_unavailable", Msg: "A part of the control plane is not reachable just now; try again in a moment."}

// errMoved says that somebody else wrote the key in between.
var errMoved = errors.New("written by another")

// bucketPatience bounds one call to a bucket: a user waits for it.
const bucketPatience = time.Second

// bucket is a key-value bucket whose entries live for a while. It is held in memory, made when it
// is missing, and made again after a wipe. Keys are hashed: what they say stays with the caller.
type bucket struct {
	conn     *nats.Conn
	name     string
	ttl      time.Duration
	replicas int
	maxBytes int64 // 0: no limit

	mu sync.Mutex
	kv jetstream.KeyValue // nil: to be opened
}

// get returns the value and its revision; nil and 0 where there is none.
func (b *bucket) get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	err = b.do(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		e, err := kv.Get(ctx, hashed(key))
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

// put writes whatever stands there.
func (b *bucket) put(ctx context.Context, key string, value []byte) (revision uint64, err error) {
	err = b.do(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		revision, err = kv.Put(ctx, hashed(key), value)
		return err
	})
	return revision, err
}

// replace writes only over a revision, 0 for none; errMoved otherwise.
func (b *bucket) replace(ctx context.Context, key string, value []byte, over uint64) (revision uint64, err error) {
	err = b.do(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		if over == 0 {
			revision, err = kv.Create(ctx, hashed(key), value)
		} else {
			revision, err = kv.Update(ctx, hashed(key), value, over)
		}
		return err
	})
	return revision, err
}

// remove deletes only a revision; errMoved otherwise.
func (b *bucket) remove(ctx context.Context, key string, revision uint64) error {
	return b.do(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		return kv.Delete(ctx, hashed(key), jetstream.LastRevision(revision))
	})
}

// do runs a call on the bucket, making the bucket if it turns out to be missing.
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
			b.forget(kv) // the likeliest reason is a bucket that was wiped
		default:
			return fmt.Errorf("bucket %s: %w: %w", b.name, ErrUnavailable, err)
		}
	}
}

// full tells that a bucket took no more: nats-server's code for a stream at its limit.
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
	b.kv, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: b.name, TTL: b.ttl, History: 1, Replicas: max(b.replicas, 1),
		Storage: jetstream.MemoryStorage, MaxBytes: b.maxBytes, MaxValueSize: 4 << 10,
	})
	return b.kv, err
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
