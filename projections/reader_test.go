package projections_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/projections"
)

func TestReaderInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 7 {
		id := fmt.Sprintf("01A%d", i)
		w.append(encoded[instance.Event](w, "instance", id, instance.Codec.Encode, instance.Requested{Account: "ada", Name: seal("ada", label(id), fmt.Sprint("desk ", i)), Type: "t", Region: "r"})...)
	}
	w.append(encoded[instance.Event](w, "instance", "01A3", instance.Codec.Encode, instance.TerminationRequested{At: began}, instance.Terminated{})...)
	w.append(encoded[instance.Event](w, "instance", "01A4", instance.Codec.Encode, instance.LaunchAbandoned{Code: "c", Reason: "Why."}, instance.Failed{Code: "c", Reason: "Why."})...)
	w.append(encoded[instance.Event](w, "instance", "01B1", instance.Codec.Encode, instance.Requested{Account: "bob", Name: seal("bob", label("01B1"), "bob's"), Type: "t", Region: "r"})...)
	w.project(projections.All()...)
	w.caughtUp()

	pages := func(account string, limit int, all bool) (seen []string) {
		for before, first := "", true; first || before != ""; first = false {
			l, err := w.reader.List(t.Context(), account, projections.Page{Before: before, Limit: limit, All: all}, projections.Period{From: began})
			if err != nil || len(l.Instances) > limit {
				t.Fatalf("got %d rows, %v, want at most %d", len(l.Instances), err, limit)
			}
			for _, i := range l.Instances {
				seen = append(seen, i.ID+" "+i.Name)
			}
			if before = l.Next; len(seen) > 100 {
				t.Fatalf("got pages without end, want at most 100 rows: %v", seen)
			}
		}
		return seen
	}
	want := []string{"01A6 desk 6", "01A5 desk 5", "01A4 desk 4", "01A3 desk 3", "01A2 desk 2", "01A1 desk 1", "01A0 desk 0"}
	without := slices.Delete(slices.Clone(want), 3, 4)
	for account, want := range map[string]int{"ada": 5, "bob": 1, "eve": 0} {
		l, err := w.reader.List(t.Context(), account, projections.Page{Limit: 1}, projections.Period{From: began})
		if got := l.Held; got != want || err != nil {
			t.Errorf("held by %s: got %d, %v, want %d: without the terminated and the failed one", account, got, err, want)
		}
	}
	for limit := 1; limit <= 8; limit++ {
		if got := pages("ada", limit, true); !slices.Equal(got, want) {
			t.Errorf("all, pages of %d: got %v, want %v", limit, got, want)
		}
		if got := pages("ada", limit, false); !slices.Equal(got, without) {
			t.Errorf("pages of %d: got %v, want %v", limit, got, without)
		}
	}
	if got := pages("bob", 10, true); !slices.Equal(got, []string{"01B1 bob's"}) {
		t.Errorf("bob's list: got %v, want %v", got, []string{"01B1 bob's"})
	}
	if got := pages("stranger", 10, true); got != nil {
		t.Errorf("the list of an unknown account: got %v, want none", got)
	}
	for _, c := range [][2]string{{"bob", "01A1"}, {"", "01A1"}, {"ada", "01NOTHING"}, {"ada", "' OR 1=1 --"}} {
		if got, err := w.reader.Instance(t.Context(), c[0], c[1]); !errors.Is(err, instance.ErrNotFound) {
			t.Errorf("%v: got %+v, %v, want %v", c, got, err, instance.ErrNotFound)
		}
	}
	failed, err := w.reader.Instance(t.Context(), "ada", "01A4")
	if err != nil || failed.Reason != "Why." || failed.Status != instance.StatusFailed || failed.CreatedAt.After(failed.UpdatedAt) || failed.Ready() {
		t.Errorf("got %+v, %v, want it failed with its reason and not ready", failed, err)
	}
	ids, position, err := w.reader.Live(t.Context())
	slices.Sort(ids)
	if head, _ := w.store.Head(t.Context()); err != nil || position != head || !slices.Equal(ids, []string{"01A0", "01A1", "01A2", "01A5", "01A6", "01B1"}) {
		t.Errorf("got %v live at %d, %v, want all but 01A3 and 01A4, at %d", ids, position, err, head)
	}
}

func TestReaderLiveOfNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if ids, position, err := w.reader.Live(t.Context()); len(ids) != 0 || position != 0 || err != nil {
		t.Errorf("got %v at %d, %v, want none at 0", ids, position, err)
	}
}

// The list of Live holds for its position, also while instances are added and a rebuild switches the
// tables: the saga would miss an instance that is in neither.
func TestReaderLiveDuringRebuilds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := find(t, "instances")
	w.project(p)
	var over atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !over.Load(); i++ {
			id := fmt.Sprintf("01A%05d", i)
			w.append(encoded[instance.Event](w, "instance", id, instance.Codec.Encode, instance.Requested{Account: "ada", Name: seal("ada", label(id), "n"), Type: "t", Region: "r"})...)
			<-time.After(time.Millisecond)
		}
	})
	looks := 0
	wg.Go(func() {
		for ; !over.Load(); looks++ {
			ids, position, err := w.reader.Live(t.Context())
			if err != nil || int64(len(ids)) != position {
				t.Errorf("got %d instances at position %d, %v, want as many as the position", len(ids), position, err)
				return
			}
			l, err := w.reader.List(t.Context(), "ada", projections.Page{Limit: 100}, projections.Period{From: began})
			if err != nil || len(l.Instances) < min(100, len(ids)) {
				t.Errorf("got a list of %d, %v, want at least %d", len(l.Instances), err, min(100, len(ids)))
				return
			}
		}
	})
	for range 25 {
		if _, err := projections.Rebuild(t.Context(), w.pool, w.store, p, nil); err != nil {
			t.Error(err)
			break
		}
	}
	over.Store(true)
	wg.Wait()
	t.Logf("%d looks", looks)
}

func TestReaderHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everything("ada", "01A")
	w.everything("bob", "01B")
	w.project(projections.All()...)
	w.caughtUp()
	all, err := w.reader.Since(t.Context(), "ada", 0, 1000)
	if err != nil || len(all) < 20 {
		t.Fatalf("got %d entries, %v, want at least 20", len(all), err)
	}
	var after int64
	var paged []projections.Entry
	for {
		page, err := w.reader.Since(t.Context(), "ada", after, 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		paged = append(paged, page...)
		after = page[len(page)-1].Position
	}
	if len(paged) != len(all) {
		t.Errorf("got %d entries in pages, want %d", len(paged), len(all))
	}
	last := int64(0)
	for _, e := range all {
		if e.Position <= last || e.Sentence == "" || !json.Valid(e.Data) || e.Actor != "ada" || e.EventID == "" || strings.Contains(e.Subject, "01B") {
			t.Errorf("got %+v, want a complete entry of ada after position %d", e, last)
		}
		last = e.Position
	}
	mine, err := w.reader.History(t.Context(), "ada", "01A", 0, 1000)
	if err != nil || len(mine) != 37 {
		t.Errorf("got %d entries of the instance, %v, want 37", len(mine), err)
	}
	for _, e := range mine {
		if e.Subject != "instance/01A" || !strings.HasPrefix(e.Type, "instance.") && e.Type != "audit.keys_handed_out" && e.Type != "audit.diagnostics_read" && !strings.HasPrefix(e.Type, "budget.") {
			t.Errorf("got %+v, want an entry about instance/01A", e)
		}
	}
	account, err := w.reader.AccountHistory(t.Context(), "ada", 0, 1000)
	var types []string
	for _, e := range account {
		types = append(types, e.Type)
	}
	if want := "account.signed_up account.password_changed account.suspended account.resumed account.idle_policy_set " +
		"billing.plan_granted billing.access_set billing.plan_withdrawn billing.checkout_requested billing.checkout_lost billing.checkout_requested billing.checkout_seen " +
		"billing.subscription_seen billing.invoice_seen billing.subscription_seen billing.invoice_seen billing.access_set billing.usage_reported token.created token.used token.revoked session.started session.started session.ended " +
		"apikey.stored apikey.stored apikey.removed audit.log_in_failed budget.limits_set budget.warned"; err != nil || strings.Join(types, " ") != want {
		t.Errorf("got %s, %v, want %s", types, err, want)
	}
	latest, err := w.reader.AccountHistoryBefore(t.Context(), "ada", math.MaxInt64, 1000)
	if slices.Reverse(latest); err != nil || !reflect.DeepEqual(latest, account) {
		t.Errorf("newest first, reversed: got %+v, %v, want %+v", latest, err, account)
	}
	if rest, err := w.reader.AccountHistory(t.Context(), "ada", account[3].Position, 2); err != nil || !reflect.DeepEqual(rest, account[4:6]) {
		t.Errorf("got %+v, %v, want %+v", rest, err, account[4:6])
	}
	if rest, err := w.reader.History(t.Context(), "ada", "01A", mine[10].Position, 3); err != nil || len(rest) != 3 || rest[0].Position != mine[11].Position {
		t.Errorf("got %+v, %v, want 3 from position %d", rest, err, mine[11].Position)
	}
	newest, err := w.reader.HistoryBefore(t.Context(), "ada", "01A", math.MaxInt64, 1000)
	if slices.Reverse(newest); err != nil || !reflect.DeepEqual(newest, mine) {
		t.Errorf("newest first, reversed: got %+v, %v, want %+v", newest, err, mine)
	}
	if rest, err := w.reader.HistoryBefore(t.Context(), "ada", "01A", mine[10].Position, 3); err != nil || len(rest) != 3 || rest[0].Position != mine[9].Position {
		t.Errorf("got %+v, %v, want 3 from position %d", rest, err, mine[9].Position)
	}
	for _, account := range []string{"bob", "", "stranger"} {
		if got, err := w.reader.HistoryBefore(t.Context(), account, "01A", math.MaxInt64, 10); err != nil || len(got) != 0 {
			t.Errorf("%q: got %v, %v, want nothing", account, got, err)
		}
		if got, err := w.reader.History(t.Context(), account, "01A", 0, 10); err != nil || len(got) != 0 {
			t.Errorf("%q: got %v, %v, want nothing", account, got, err)
		}
	}
}

func TestReaderSessionsAndKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everything("ada", "01A")
	w.everything("bob", "01B")
	expired := session.Leaf{Generation: 1, TokenID: "t", IssuedAt: time.Now().Add(-48 * time.Hour), ExpiresAt: time.Now().Add(-time.Hour)}
	w.append(encoded[session.Event](w, "session", "expired-ada", session.Codec.Encode, session.Started{Account: "ada", Leaf: expired})...)
	w.project(projections.All()...)
	w.caughtUp()
	list, err := w.reader.Sessions(t.Context(), "ada")
	if err != nil || len(list) != 1 || list[0].ID != "live-01A" || list[0].Agent != "browser" || list[0].ClientAddr != "192.0.2.8" || !list[0].StartedAt.Equal(began) {
		t.Errorf("got %+v, %v, want live-01A of browser at 192.0.2.8 since %v", list, err, began)
	}
	ended, err := w.reader.EndedSince(t.Context(), began)
	slices.Sort(ended)
	if err != nil || !slices.Equal(ended, []string{"over-01A", "over-01B"}) {
		t.Errorf("got %v, %v, want over-01A and over-01B", ended, err)
	}
	if ended, err = w.reader.EndedSince(t.Context(), began.Add(time.Hour)); err != nil || len(ended) != 0 {
		t.Errorf("got %v, %v, want none", ended, err)
	}
	keys, err := w.reader.APIKeys(t.Context(), "ada")
	if err != nil || len(keys) != 1 || keys[0].Provider != "openai" || keys[0].Last4 != "ab12" || keys[0].UpdatedAt.IsZero() {
		t.Errorf("got %+v, %v, want openai ending in ab12", keys, err)
	}
	if keys, err = w.reader.APIKeys(t.Context(), "stranger"); err != nil || len(keys) != 0 {
		t.Errorf("got %+v, %v, want none", keys, err)
	}
}

func TestPercent(t *testing.T) {
	t.Parallel()
	last := -1
	for _, p := range instance.Phases {
		n := projections.Instance{Phase: p}.Percent()
		if n <= last || n > 100 {
			t.Errorf("%s: got %d %%, want more than %d and at most 100", p, n, last)
		}
		last = n
	}
	if last != 100 || (projections.Instance{Phase: "party"}).Percent() != 0 {
		t.Errorf("got %d %% for ready, want 100, and 0 for an unknown phase", last)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p projections.Progress
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Wait(ctx, 0); err != nil {
			t.Errorf("for nothing: %v", err)
		}
		if err := p.Wait(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("for what never comes: got %v, want %v", err, context.DeadlineExceeded)
		}
		done := make(chan error)
		go func() { done <- p.Wait(t.Context(), 5) }()
		for _, s := range []struct {
			name string
			at   int64
		}{{"a", 3}, {"b", 9}, {"a", 3}, {"a", 4}} {
			p.Set(s.name, s.at)
			synctest.Wait()
			select {
			case err := <-done:
				t.Fatalf("got %v at %d, want it to wait for 5", err, p.Position())
			default:
			}
		}
		if position, changed := p.Changed(); position != 4 {
			t.Errorf("slowest at: got %d, want 4", position)
		} else {
			p.Set("a", 5)
			<-changed
		}
		if err := <-done; err != nil || p.Position() != 5 {
			t.Errorf("got %v at %d, want no error at 5", err, p.Position())
		}
	})
}

// A caller that waits for its own write can read it.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.project(projections.All()...)
	for i := range 20 {
		id := fmt.Sprintf("01A%02d", i)
		at := w.append(encoded[instance.Event](w, "instance", id, instance.Codec.Encode, instance.Requested{Account: "ada", Name: seal("ada", label(id), "n"), Type: "t", Region: "r"})...)
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		if err := w.progress.Wait(ctx, at); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := w.reader.Instance(t.Context(), "ada", id); err != nil {
			t.Fatalf("written at %d: got %v at %d, want to read it", at, err, w.progress.Position())
		}
	}
}

// With a single connection: the vault that opens names needs it too, so the reader must have released it
// before.
func TestReaderHoldsNoConnectionWhileItOpens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.everything("acc", "01I")
	w.project(projections.All()...)
	w.caughtUp()
	cfg := w.pool.Config()
	cfg.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	opened := 0
	reader := *w.reader
	reader.Pool = pool
	reader.Open = func(ctx context.Context, account, label string, sealed []byte) ([]byte, error) {
		opened++
		if err := pool.Ping(ctx); err != nil { // as a vault that must fetch the key
			return nil, err
		}
		return open(ctx, account, label, sealed)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if l, err := reader.List(ctx, "acc", projections.Page{Limit: 10, All: true}, projections.Period{From: began}); err != nil || len(l.Instances) != 3 {
		t.Errorf("list: got %v, %v, want 3", l.Instances, err)
	}
	if _, err := reader.Instance(ctx, "acc", "01I"); err != nil {
		t.Errorf("one: %v", err)
	}
	if list, err := reader.Sessions(ctx, "acc"); err != nil || len(list) != 1 || list[0].ClientAddr != "192.0.2.8" {
		t.Errorf("sessions: got %v, %v, want one at 192.0.2.8", list, err)
	}
	if opened != 5 {
		t.Errorf("got %d opened names, want 5", opened)
	}
}
