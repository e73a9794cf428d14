package jetstream

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// MaxWindow is the longest window a Limiter counts over.
const MaxWindow = time.Hour

// LimiterConfig says where the limits are kept.
type LimiterConfig struct {
	Conn     *nats.Conn       // required; may be disconnected
	Logger   *slog.Logger     // nil: silent
	Replicas int              // 0: as many as the cluster's size allows, 1 or 3
	Now      func() time.Time // nil: time.Now
}

// Limiter is a rate limiter that all replicas share. While NATS is unreachable or its bucket is full, each replica
// counts on its own, so that passwords cannot be guessed without limit meanwhile; Probe reports it.
type Limiter struct {
	bucket *bucket
	log    *slog.Logger
	now    func() time.Time
	local  localLimits
	away   atomic.Bool  // NATS was unreachable at the last call
	full   atomic.Int64 // when the bucket last had no room, in Unix nanoseconds
	hung   atomic.Int64 // when a call to NATS last timed out
	// One call a key at a time within a replica: only replicas compete for a key.
	stripes [256]sync.Mutex
	seed    maphash.Seed
}

const (
	limiterTries   = 20
	limiterBytes   = 64 << 20
	contendedRetry = time.Second
	// fullFor is how long a bucket counts as full after it refused a new key. Known keys still work meanwhile.
	fullFor = time.Minute
	// hungFor is how long a NATS that hangs is left alone: a sign-in has several keys, and each would wait for it.
	hungFor = 5 * time.Second
)

var errHangs = fmt.Errorf("%w: it did not answer in time", ErrUnavailable)

// NewLimiter returns a Limiter. It may be called while NATS is unreachable.
func NewLimiter(cfg LimiterConfig) *Limiter {
	l := &Limiter{
		bucket: &bucket{conn: cfg.Conn, name: "limits", ttl: 2 * MaxWindow, replicas: cfg.Replicas, maxBytes: limiterBytes},
		log:    cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), now: cfg.Now, seed: maphash.MakeSeed(),
	}
	if l.now == nil {
		l.now = time.Now
	}
	return l
}

// Allow counts one use of a key and returns 0. If the limit is reached, it does not count the use and returns
// how long to wait. A key has limit uses in a burst, and gains one back each window/limit. Keys are hashed
// before they are stored; hash personal data with a key of your own first. An error says that the arguments are
// invalid or that ctx ended.
func (l *Limiter) Allow(ctx context.Context, key string, limit int, window time.Duration) (retryAfter time.Duration, err error) {
	if limit < 1 || window <= 0 || window > MaxWindow {
		return 0, fmt.Errorf("rate limit: %d in %s is not a limit", limit, window)
	}
	stripe := &l.stripes[maphash.String(l.seed, key)%uint64(len(l.stripes))]
	stripe.Lock()
	defer stripe.Unlock()
	asked := time.Now()
	if l.hangs() {
		err = errHangs
	} else {
		retryAfter, err = l.shared(ctx, key, limit, window)
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("rate limit: %w", ctx.Err())
	}
	if err == nil {
		l.away.Store(false)
		return retryAfter, nil
	}
	if time.Since(asked) >= bucketPatience {
		l.hung.Store(l.now().UnixNano())
	}
	if full(err) {
		l.noRoom(ctx)
	} else if !l.away.Swap(true) {
		l.log.WarnContext(ctx, "sharing rate limits failed, each replica counts on its own", "err", err)
	}
	return l.local.allow(hashed(key), l.now(), limit, window), nil
}

// hangs reports whether a recent call to NATS timed out.
func (l *Limiter) hangs() bool {
	since := l.now().Sub(time.Unix(0, l.hung.Load()))
	return since >= 0 && since < hungFor
}

// noRoom notes that the bucket is full, and logs it once.
func (l *Limiter) noRoom(ctx context.Context) {
	if now := l.now(); now.Sub(time.Unix(0, l.full.Swap(now.UnixNano()))) > fullFor {
		l.log.WarnContext(ctx, "bucket of rate limits full, each replica counts new keys on its own", "bytes", limiterBytes)
	}
}

// Probe reports whether the limits are shared by the replicas.
func (l *Limiter) Probe(ctx context.Context) error {
	err := l.bucket.probe(ctx)
	if full(err) || err == nil && l.now().Sub(time.Unix(0, l.full.Load())) < fullFor {
		return fmt.Errorf("bucket %s: full at %d bytes", l.bucket.name, limiterBytes) // always the same text, so that it is logged once
	}
	return err
}

// GiveBack undoes one use of a key that Allow counted, here or on another replica.
func (l *Limiter) GiveBack(ctx context.Context, key string, limit int, window time.Duration) {
	stripe := &l.stripes[maphash.String(l.seed, key)%uint64(len(l.stripes))]
	stripe.Lock()
	defer stripe.Unlock()
	each := window / time.Duration(max(limit, 1))
	l.local.giveBack(hashed(key), each)
	if l.hangs() {
		return
	}
	for range limiterTries {
		value, revision, err := l.bucket.get(ctx, key)
		if err != nil || len(value) != 8 {
			return
		}
		full := time.Unix(0, int64(binary.BigEndian.Uint64(value))).Add(-each)
		_, err = l.bucket.replace(ctx, key, binary.BigEndian.AppendUint64(nil, uint64(full.UnixNano())), revision)
		if !errors.Is(err, errMoved) || retry.Sleep(ctx, rand.N(5*time.Millisecond)) != nil {
			return
		}
	}
}

func (l *Limiter) shared(ctx context.Context, key string, limit int, window time.Duration) (time.Duration, error) {
	for range limiterTries {
		value, revision, err := l.bucket.get(ctx, key)
		if err != nil {
			return 0, err
		}
		var full time.Time
		if len(value) == 8 {
			full = time.Unix(0, int64(binary.BigEndian.Uint64(value)))
		}
		full, retryAfter := use(full, l.now(), limit, window)
		if retryAfter > 0 {
			return retryAfter, nil
		}
		_, err = l.bucket.replace(ctx, key, binary.BigEndian.AppendUint64(nil, uint64(full.UnixNano())), revision)
		if !errors.Is(err, errMoved) {
			return 0, err
		}
		if err := retry.Sleep(ctx, rand.N(5*time.Millisecond)); err != nil {
			return 0, err
		}
	}
	// No honest user has so many replicas compete for one key.
	return contendedRetry, nil
}

// use is the generic cell rate algorithm. full is when the key will have its whole limit back; a use is
// allowed if, with it counted, that is at most a window away.
func use(full, now time.Time, limit int, window time.Duration) (after time.Time, retryAfter time.Duration) {
	each := window / time.Duration(limit)
	if full.Before(now) {
		full = now
	}
	if full.After(now.Add(window)) {
		full = now.Add(window) // a clock went back: the wait never exceeds a window
	}
	if wait := full.Add(each).Sub(now.Add(window)); wait > 0 {
		return full, wait
	}
	return full.Add(each), 0
}

// localLimits holds the limits that one replica counts on its own. The zero value is ready.
type localLimits struct {
	mu   sync.Mutex
	full map[string]time.Time
}

// maxLocal bounds the memory: beyond it, keys that have their whole limit back are dropped first, then
// any others.
const maxLocal = 50_000

func (l *localLimits) allow(key string, now time.Time, limit int, window time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full == nil {
		l.full = map[string]time.Time{}
	}
	if len(l.full) >= maxLocal {
		l.forget(now)
	}
	full, retryAfter := use(l.full[key], now, limit, window)
	l.full[key] = full
	return retryAfter
}

func (l *localLimits) giveBack(key string, each time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if full, known := l.full[key]; known {
		l.full[key] = full.Add(-each)
	}
}

func (l *localLimits) forget(now time.Time) {
	for k, full := range l.full {
		if !full.After(now) {
			delete(l.full, k)
		}
	}
	for k := range l.full {
		if len(l.full) < maxLocal*9/10 {
			break
		}
		delete(l.full, k)
	}
}
