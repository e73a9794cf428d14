package looks_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/adapters/looks"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestStore(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var s provisioner.LookStore = looks.Store{DB: pool}
	if text, err := s.Load(t.Context()); text != nil || err != nil {
		t.Errorf("got %q, %v, want nothing", text, err)
	}
	for _, want := range []string{"one", "two"} {
		if err := s.Save(t.Context(), []byte(want)); err != nil {
			t.Fatal(err)
		}
		if text, err := s.Load(t.Context()); string(text) != want || err != nil {
			t.Errorf("got %q, %v, want %q", text, err, want)
		}
	}
	pool.Close()
	if _, err := s.Load(t.Context()); err == nil {
		t.Error("got no error from a closed pool")
	}
}

func TestCommitsDoNotWait(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	commits := pgtest.WatchCommits(t, pool.Config().ConnString())
	for _, text := range []string{"one", "two"} {
		if err := (looks.Store{DB: pool}).Save(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		commits.Expect(nil, []string{"ops.looks"})
	}
}
