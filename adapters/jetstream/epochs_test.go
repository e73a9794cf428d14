package jetstream_test

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestPostgresEpochs(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	e := jetstream.PostgresEpochs{Pool: pool}
	if n, err := e.Current(t.Context()); n != 1 || err != nil {
		t.Fatalf("got %d, %v, want 1 and no error", n, err)
	}
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if n, err := e.Begin(t.Context(), 1, "test", 5); n != 2 || err != nil {
				t.Errorf("got %d, %v, want 2 and no error", n, err)
			}
		})
	}
	all.Wait()
	for _, c := range []struct{ old, want int }{{0, 2}, {1, 2}, {7, 8}, {2, 8}} {
		if n, err := e.Begin(t.Context(), c.old, "test", 5); n != c.want || err != nil {
			t.Fatalf("after %d: got %d, %v, want %v and no error", c.old, n, err, c.want)
		}
	}
}
