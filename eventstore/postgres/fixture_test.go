package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t *testing.T, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func pool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	p, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// ids makes event ids that differ within one test.
type ids struct{ n atomic.Int64 }

func (i *ids) append(id string, expected int64, n int) eventstore.Append {
	w := eventstore.Write{Stream: eventstore.StreamID{Aggregate: "thing", ID: id}, Expected: expected}
	for range n {
		w.Events = append(w.Events, eventstore.NewEvent{
			ID: fmt.Sprintf("%026d", i.n.Add(1)), Type: "thing.happened", Schema: 1, Time: time.Now(), Data: json.RawMessage(`{}`),
		})
	}
	return eventstore.Append{Writes: []eventstore.Write{w}}
}

func receipt(a eventstore.Append, key string) eventstore.Append {
	a.Receipt = &eventstore.Receipt{Key: key, Request: []byte(key), Response: json.RawMessage(`{"key":"` + key + `"}`)}
	return a
}

func must(t *testing.T, s eventstore.Store, a eventstore.Append) eventstore.Result {
	t.Helper()
	res, err := s.Append(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// cutter breaks the store's connections at chosen moments.
type cutter struct {
	beforeSend  atomic.Bool // the next write never leaves
	beforeReply atomic.Bool // the next reply never arrives
	cuts        atomic.Int64
	panics      atomic.Bool   // the next read panics, once trap is closed
	trap        chan struct{} // nil unless panics is set
	log         *slog.Logger  // of the store; nil: silent
}

type cutConn struct {
	net.Conn
	c *cutter
}

func (c *cutter) open(t *testing.T, url string) *postgres.Store {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &cutConn{conn, c}, err
	}
	p, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s, err := postgres.Open(t.Context(), postgres.Config{Pool: postgres.Wrap(p), Logger: c.log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.c.beforeSend.CompareAndSwap(true, false) {
		c.c.cuts.Add(1)
		c.Conn.Close()
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	if c.c.panics.CompareAndSwap(true, false) {
		<-c.c.trap
		panic("the reply cannot be read")
	}
	n, err := c.Conn.Read(b)
	if n > 0 && c.c.beforeReply.CompareAndSwap(true, false) {
		c.c.cuts.Add(1)
		c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}
