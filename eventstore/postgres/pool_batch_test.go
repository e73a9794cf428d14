package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// A batch gives its connection back, also after an error, and says so when there is none.
func TestBatches(t *testing.T) {
	t.Parallel()
	pool, _ := openPool(t, pgtest.New(t)+"&pool_max_conns=2", time.Minute)
	for n := range 10 {
		var b pgx.Batch
		got := 0
		b.Queue(`SELECT $1::int`, n).QueryRow(func(row pgx.Row) error { return row.Scan(&got) })
		if n%2 == 1 {
			b.Queue(`SELECT 1 / 0`)
		}
		results := pool.SendBatch(t.Context(), &b)
		err := results.Close()
		if again := results.Close(); got != n || (err != nil) != (n%2 == 1) || (again != nil) != (err != nil) {
			t.Errorf("got %d, %v, then %v, want %d and an error every second time", got, err, again, n)
		}
	}
	if held := pool.Stat().AcquiredConns(); held != 0 {
		t.Errorf("got %d connections that were not given back, want none", held)
	}
	pool.Close()
	var b pgx.Batch
	b.Queue(`SELECT 1`)
	if err := pool.SendBatch(t.Context(), &b).Close(); err == nil {
		t.Error("got no error from a closed pool")
	}
}
