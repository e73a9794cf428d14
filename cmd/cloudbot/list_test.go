package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/activity"
	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

// trips counts what a pool sends.
type trips struct{ batches, inBatches, alone atomic.Int64 }

func (c *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.alone.Add(1)
	return ctx
}

func (*trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.batches.Add(1)
	return ctx
}

func (c *trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {
	c.inBatches.Add(1)
}

func (*trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// take returns the counts since the last call.
func (c *trips) take() [3]int64 {
	return [3]int64{c.batches.Swap(0), c.inBatches.Swap(0), c.alone.Swap(0)}
}

// A list is one round trip, also with a cold cache of data keys, and needs one connection: with a pool of one, a request that
// asked for a second one while it holds the first would never get it.
func TestListIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cfg, err := pgxpool.ParseConfig(pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	counted := &trips{}
	cfg.MaxConns, cfg.ConnConfig.Tracer = 1, counted
	bare, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	pool := postgres.Wrap(bare)
	ring, err := secrets.NewKeyring(strings.Repeat("5a", 32))
	if err != nil {
		t.Fatal(err)
	}
	open := func() *secrets.Vault {
		v, err := secrets.OpenVault(ctx, secrets.VaultConfig{Pool: pool, Keyring: ring})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const accounts, each = 40, 3
	sealing := open()
	for a := range accounts {
		account := fmt.Sprintf("acc%d", a)
		if err := sealing.NewKey(ctx, account); err != nil {
			t.Fatal(err)
		}
		for n := range each {
			id := fmt.Sprintf("01%s%d", account, n)
			name, err := sealing.Seal(ctx, account, commands.NameLabel(id), []byte("desk of "+account))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pool.Exec(ctx, `INSERT INTO read.instances (id, account, name, status, phase, type, region, created_at, updated_at, phase_since, position)
				VALUES ($1, $2, $3, 'stopped', 'ready', 't', 'r', now(), now(), now(), 1)`, id, account, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	reader, _ := newReader(pool, open())
	used := &activity.Table{Pool: pool, Now: time.Now}
	list := func(a int) {
		account := fmt.Sprintf("acc%d", a)
		queue, read := used.Beside(account)
		l, err := reader.List(ctx, account, projections.Page{Limit: 20}, projections.Period{From: time.Now(), To: time.Now()}, queue)
		if err != nil || len(l.Instances) != each || l.Instances[0].Name != "desk of "+account || l.Held != each || l.UsageErr != nil {
			t.Errorf("got %+v, %v, want %d desktops of %s", l, err, each, account)
		}
		if _, _, err := read(ctx); err != nil {
			t.Error(err)
		}
	}
	counted.take()
	var wg sync.WaitGroup
	for a := range accounts {
		wg.Go(func() { list(a) })
	}
	wg.Wait()
	if got, want := counted.take(), [3]int64{accounts, 6 * accounts, 0}; got != want {
		t.Errorf("cold: got %v batches, their queries, and queries alone, want %v", got, want)
	}
	list(0)
	if got, want := counted.take(), [3]int64{1, 5, 0}; got != want {
		t.Errorf("warm: got %v, want %v: the key is known", got, want)
	}
	for _, page := range []projections.Page{{Limit: each - 1}, {Limit: 20, Before: "01acc11"}} {
		l, err := reader.List(ctx, "acc1", page, projections.Period{From: time.Now(), To: time.Now()})
		if err != nil || l.Held != each {
			t.Errorf("%+v: got %d desktops that count, %v, want %d", page, l.Held, err, each)
		}
		if got, want := counted.take(), [3]int64{1, 4, 1}; got != want {
			t.Errorf("%+v: got %v, want %v: the desktops are counted by a query", page, got, want)
		}
	}
	queue, read := used.Beside("acc1")
	if _, err := reader.Desktop(ctx, "acc1", "01acc11", projections.Period{From: time.Now(), To: time.Now()}, queue); err != nil {
		t.Error(err)
	}
	if _, _, err := read(ctx); err != nil {
		t.Error(err)
	}
	if got, want := counted.take(), [3]int64{1, 5, 0}; got != want {
		t.Errorf("one desktop: got %v, want %v", got, want)
	}
	if _, err := reader.Latest(ctx, []string{"acc1", "acc2", "acc3"}); err != nil {
		t.Error(err)
	}
	if got, want := counted.take(), [3]int64{0, 0, 1}; got != want {
		t.Errorf("the latest events of three accounts: got %v, want %v", got, want)
	}
}
