package biller_test

import (
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The ledgers are the same over the log in Postgres.
func TestLedgerSchedulesOnPostgres(t *testing.T) {
	t.Parallel()
	store, err := postgres.Open(t.Context(), postgres.Config{URL: pgtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	c := newTown(t, 101, planted{store: func(*town, eventstore.Store) eventstore.Store { return store }})
	c.live()
	for _, d := range c.differences() {
		t.Error(d)
	}
	report(t, c.count)
}
