package deliveries_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/deliveries"
	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/commands"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t *testing.T) (deliveries.Store, *pgxpool.Pool) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return deliveries.Store{DB: pool}, pool
}

func TestRemembersForAMonth(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	handled := func(id string) bool {
		t.Helper()
		yes, err := s.Handled(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}
	if handled("evt_1") {
		t.Error("before: got handled, want not")
	}
	for range 2 { // two replicas
		if err := s.Remember(t.Context(), "evt_1"); err != nil {
			t.Fatal(err)
		}
	}
	if !handled("evt_1") || handled("evt_2") {
		t.Error("got another message handled, want evt_1")
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO ops.deliveries SELECT 'old_' || n, now() - interval '30 days 1 minute' FROM generate_series(1, 5) n
		UNION ALL SELECT 'young', now() - interval '29 days'`); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if err := s.Remember(t.Context(), fmt.Sprint("evt_", n+10)); err != nil {
			t.Fatal(err)
		}
	}
	var left int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM ops.deliveries`).Scan(&left); err != nil || left != 5 || !handled("young") {
		t.Errorf("got %d messages, %v, want 5: the old ones are gone, and the young one is not", left, err)
	}
}

func TestRemembersTheLatestComparison(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	if at, err := s.LastComparison(t.Context()); err != nil || !at.IsZero() {
		t.Errorf("before: got %v, %v, want none", at, err)
	}
	began := time.Now().UTC().Truncate(time.Microsecond).Add(-time.Hour)
	want := commands.Comparison{Began: began, Accounts: 3, Changed: 1, Unlinked: []string{"sub_1"}}
	for _, c := range []commands.Comparison{want, {Began: began.Add(-time.Minute)}} { // a slow one of another replica is no news
		if err := s.RememberComparison(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Last(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	// One whose clock was ahead must not keep all later ones out.
	if err := s.RememberComparison(t.Context(), commands.Comparison{Began: began.AddDate(1, 0, 0)}); err != nil {
		t.Fatal(err)
	}
	if err := s.RememberComparison(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if at, err := s.LastComparison(t.Context()); err != nil || !at.Equal(began) {
		t.Errorf("after a clock that was ahead: got %v, %v, want %v", at, err, began)
	}
	var n int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM ops.comparisons`).Scan(&n); err != nil || n != 1 {
		t.Errorf("got %d rows, %v, want 1", n, err)
	}
}

func TestCommitsDoNotWait(t *testing.T) {
	t.Parallel()
	s, pool := open(t)
	commits := pgtest.WatchCommits(t, pool.Config().ConnString())
	if err := s.Remember(t.Context(), "evt_1"); err != nil {
		t.Fatal(err)
	}
	commits.Expect(nil, []string{"ops.deliveries"})
	if err := s.RememberComparison(t.Context(), commands.Comparison{Began: time.Now()}); err != nil {
		t.Fatal(err)
	}
	commits.Expect(nil, []string{"ops.comparisons"})
}
