package lease_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/adapters/lease"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const ttl = 600 * time.Millisecond

func pool(t *testing.T, url string, through *cable) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	if through != nil {
		cfg.ConnConfig.DialFunc = through.dial
	}
	p, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func holder(t *testing.T, url string, through *cable) *lease.Leases {
	return lease.New(lease.Config{Pool: pool(t, url, through), TTL: ttl})
}

// cable is a connection to the database that can be cut, as when a holder's machine loses its network.
type cable struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (c *cable) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, io.ErrClosedPipe
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cable) sever() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for _, conn := range c.conns {
		conn.Close()
	}
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	var inside, turns atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		l := holder(t, url, nil)
		wg.Go(func() {
			err := l.Hold(t.Context(), "role", func(ctx context.Context) error {
				if inside.Add(1) != 1 {
					t.Error("two hold the lease")
				}
				// Longer than the lease lasts, so it must be renewed.
				_ = retry.Sleep(ctx, ttl*3/2)
				inside.Add(-1)
				turns.Add(1)
				return ctx.Err()
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if turns.Load() != 4 {
		t.Fatalf("%d turns, want 4", turns.Load())
	}
}

func TestNamesAreIndependent(t *testing.T) {
	t.Parallel()
	l := holder(t, pgtest.New(t), nil)
	err := l.Hold(t.Context(), "a", func(ctx context.Context) error {
		return l.Hold(ctx, "b", func(context.Context) error { return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReturnsTheFunctionsError(t *testing.T) {
	t.Parallel()
	l := holder(t, pgtest.New(t), nil)
	own := errors.New("own")
	for range 2 { // the second time proves the release
		if err := l.Hold(t.Context(), "role", func(context.Context) error { return own }); !errors.Is(err, own) {
			t.Fatalf("got %v, want error %v", err, own)
		}
	}
}

func TestContextEndsTheWait(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	a, b := holder(t, url, nil), holder(t, url, nil)
	err := a.Hold(t.Context(), "role", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, ttl/4)
		defer cancel()
		err := b.Hold(ctx, "role", func(context.Context) error {
			t.Error("the second got in")
			return nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want error %v", err, context.DeadlineExceeded)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A holder cut off from the database must have stopped before the next one starts.
func TestCutOffHolderStopsFirst(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	way := &cable{}
	cutOff, next := holder(t, url, way), holder(t, url, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var active atomic.Bool
	holding := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = cutOff.Hold(ctx, "role", func(ctx context.Context) error {
			active.Store(true)
			close(holding)
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), lease.ErrLost) {
				t.Errorf("ended by %v, want error %v", context.Cause(ctx), lease.ErrLost)
			}
			active.Store(false)
			return ctx.Err()
		})
	})
	<-holding
	way.sever()
	err := next.Hold(ctx, "role", func(context.Context) error {
		if active.Load() {
			t.Error("the cut off holder is still at work")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
}

// When another process has taken the lease, as from a process that slept too long, f's context ends.
func TestZombieIsStopped(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	l, p := holder(t, url, nil), pool(t, url, nil)
	var turns int
	err := l.Hold(t.Context(), "role", func(ctx context.Context) error {
		if turns++; turns > 1 {
			return nil // taken again after the loss
		}
		if _, err := p.Exec(ctx, `UPDATE ops.leases SET holder = 'another', term = term + 1, expires_at = clock_timestamp()`); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil || turns != 2 {
		t.Fatalf("%v after %d turns, want no error and 2", err, turns)
	}
}

func TestClearFreesWhatADeadProcessHeld(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	dead, next := holder(t, url, &cable{}), holder(t, url, &cable{})
	held := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_ = dead.Hold(ctx, "role", func(ctx context.Context) error {
			close(held)
			<-ctx.Done()
			return nil
		})
	}()
	<-held
	if err := next.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken := false
	if err := next.Hold(t.Context(), "role", func(context.Context) error { taken = true; return nil }); err != nil || !taken {
		t.Fatalf("taken %v, error %v, want no error and taken true", taken, err)
	}
}

// A role that panics gives up its lease: the lease of a role that no longer runs is not renewed.
func TestPanicLetsGoOfTheLease(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	func() {
		defer func() { _ = recover() }()
		_ = holder(t, url, nil).Hold(t.Context(), "role", func(context.Context) error { panic("a bug") })
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := holder(t, url, nil).Hold(ctx, "role", func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}
