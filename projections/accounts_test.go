package projections_test

import (
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/projections"
)

func (w *world) account(id string, events ...account.Event) {
	w.append(encoded[account.Event](w, "account", id, account.Codec.Encode,
		append([]account.Event{account.SignedUp{Email: []byte("sealed " + id), Password: []byte("hash"), At: began}}, events...)...)...)
}

func (w *world) running(acc, id string) {
	w.append(encoded[instance.Event](w, "instance", id, instance.Codec.Encode,
		instance.Requested{Account: acc, Name: seal(acc, label(id), "name"), Type: "t", Region: "r"},
		instance.MachineLaunched{Attempt: 1, Machine: "i-" + id, At: began}, instance.MachineRunning{At: began})...)
}

// TestAccounts looks at the accounts as a tool without a server does: CatchUp brings it all up to date.
func TestAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	catchUp := func() {
		t.Helper()
		for range 2 { // the second finds nothing to do
			if err := projections.CatchUp(t.Context(), w.pool, w.store, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
		}
	}
	leaf := session.Leaf{Generation: 1, IssuedAt: began, ExpiresAt: time.Now().Add(time.Hour)}
	w.account("a")
	w.account("b", account.Suspended{Reason: "Spam."})
	w.account("c", account.Suspended{}, account.Resumed{})
	for _, acc := range []string{"a", "b", "c"} {
		w.append(encoded[session.Event](w, "session", "s-"+acc, session.Codec.Encode, session.Started{Account: acc, Leaf: leaf})...)
		w.append(encoded[session.Event](w, "session", "over-"+acc, session.Codec.Encode, session.Started{Account: acc, Leaf: leaf}, session.Ended{Reason: session.LoggedOut})...)
		w.running(acc, "i-"+acc)
	}
	w.append(encoded[instance.Event](w, "instance", "gone-a", instance.Codec.Encode, instance.Requested{Account: "a", Name: seal("a", label("gone-a"), "x"), Type: "t", Region: "r"}, instance.TerminationRequested{At: began}, instance.Terminated{})...)
	catchUp()

	list, err := w.reader.Accounts(t.Context(), "", 2)
	if err != nil || len(list) != 2 || list[0].ID != "a" || list[1].ID != "b" {
		t.Fatalf("got %+v, %v, want a and b", list, err)
	}
	if a := list[0]; string(a.Email) != "sealed a" || !a.CreatedAt.Equal(began) || a.Instances != 1 || !a.Suspended.IsZero() {
		t.Errorf("got %+v, want the sealed address, %v and 1 instance, not suspended", a, began)
	}
	if b := list[1]; b.Suspended.IsZero() || b.Reason != "Spam." {
		t.Errorf("got %+v, want it suspended for Spam.", b)
	}
	if rest, err := w.reader.Accounts(t.Context(), "b", 2); err != nil || len(rest) != 1 || rest[0].ID != "c" || !rest[0].Suspended.IsZero() {
		t.Errorf("got %+v, %v, want c, not suspended", rest, err)
	}
	if c, err := w.reader.Account(t.Context(), "c"); err != nil || c.ID != "c" {
		t.Errorf("got %+v, %v, want c", c, err)
	}
	if _, err := w.reader.Account(t.Context(), "d"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("an unknown account: got %v, want %v", err, account.ErrNotFound)
	}
	suspended, err := w.reader.Suspended(t.Context())
	if err != nil || len(suspended) != 1 || suspended["b"] == 0 {
		t.Errorf("got %v, %v, want b with a position", suspended, err)
	}
	want := []projections.Leftover{{Account: "b", Session: "s-b"}, {Account: "b", Instance: "i-b"}}
	for _, acc := range []string{"", "b"} {
		if left, err := w.reader.Leftovers(t.Context(), acc); err != nil || !reflect.DeepEqual(left, want) {
			t.Errorf("of %q: got %+v, %v, want %+v", acc, left, err, want)
		}
	}
	if left, err := w.reader.Leftovers(t.Context(), "a"); err != nil || len(left) > 0 {
		t.Errorf("of one that is not suspended: got %+v, %v, want none", left, err)
	}
}

// TestOperatorsWordEndsAParkedStream puts an unreadable event into an instance's stream: the operator's
// termination behind it is applied all the same, and the stream is no longer parked.
func TestOperatorsWordEndsAParkedStream(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"as it comes": false, "parked as well": true, "rebuilt": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.project(projections.All()...)
			w.running("acc", "01I")
			w.running("acc", "01J")
			bad := encoded[instance.Event](w, "instance", "01I", instance.Codec.Encode, instance.MachineStopped{})[0]
			bad.schema = 99
			w.append(bad)
			w.append(encoded[instance.Event](w, "instance", "01I", instance.Codec.Encode, instance.Renamed{Name: []byte("never seen")})...)
			w.caughtUp()
			if n := w.number(`SELECT count(*) FROM read.parked WHERE projection = 'instances'`); n != 2 {
				t.Fatalf("got %d parked events, want 2", n)
			}
			word := w.append(encoded[instance.Event](w, "instance", "01I", instance.Codec.Encode, instance.Terminated{By: instance.ByOperator, Account: "acc"})...)
			w.caughtUp()
			if name == "rebuilt" {
				for _, p := range projections.All() {
					if _, err := projections.Rebuild(t.Context(), w.pool, w.store, p, nil); err != nil {
						t.Errorf("%s: %v", p.Name, err)
					}
				}
			}
			if late { // parked, as by an older version that did not know such a termination
				for _, p := range projections.All() {
					for position := word - 2; position <= word; position++ {
						if _, err := w.pool.Exec(t.Context(), `INSERT INTO read.parked (projection, position, stream, error) VALUES ($1, $2, 'instance/01I', 'as an earlier version')`, p.Name, position); err != nil {
							t.Fatal(err)
						}
					}
					if _, left, err := projections.RetryParked(t.Context(), w.pool, w.store, p); p.Name == "instances" && (left != 0 && left != 2) || err != nil {
						t.Errorf("%s: got %d left, %v, want 0 or 2", p.Name, left, err)
					}
				}
			}
			if n := w.number(`SELECT count(*) FROM read.parked WHERE stream = 'instance/01I'`); n != 0 {
				t.Errorf("got %d events still parked, want none: %s", n, w.dump("parked"))
			}
			got, err := w.reader.Instance(t.Context(), "acc", "01I")
			if err != nil || got.Status != instance.StatusTerminated || got.Machine != "" || got.Reason == "" {
				t.Errorf("got %+v, %v, want it terminated, without a machine, with a reason", got, err)
			}
			entries, err := w.reader.HistoryBefore(t.Context(), "acc", "01I", word+1, 1)
			if err != nil || len(entries) != 1 || entries[0].Sentence != "The operator terminated the desktop." {
				t.Errorf("got %+v, %v, want the operator's termination alone", entries, err)
			}
			ids, _, err := w.reader.Live(t.Context())
			if err != nil || !slices.Equal(ids, []string{"01J"}) {
				t.Errorf("got %v alive, %v, want 01J", ids, err)
			}
			// A rebuild passes the damaged event and ends with the same row.
			for _, name := range []string{"instances", "history"} {
				if _, err := projections.Rebuild(t.Context(), w.pool, w.store, find(t, name), nil); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := w.reader.Instance(t.Context(), "acc", "01I"); err != nil || got.Status != instance.StatusTerminated || got.Machine != "" {
				t.Errorf("rebuilt: got %+v, %v, want it terminated, without a machine", got, err)
			}
			if n := w.number(`SELECT count(*) FROM read.parked WHERE stream = 'instance/01I' AND projection IN ('instances', 'history')`); n != 0 {
				t.Errorf("got %d events parked again by a rebuild, want none", n)
			}
		})
	}
}

// TestOverviews lists instances for an operator, also one without a row because its first event is parked.
func TestOverviews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.project(projections.All()...)
	w.running("acc", "01A")
	since := began.Add(time.Duration(w.ids.Load()+1) * time.Second)
	w.append(encoded[instance.Event](w, "instance", "01A", instance.Codec.Encode, instance.TerminationRequested{At: began}, instance.CallAccepted{Call: instance.CallTerminate, At: began})...)
	w.append(encoded[instance.Event](w, "instance", "01B", instance.Codec.Encode, instance.Requested{Account: "acc", Name: seal("acc", label("01B"), "x"), Type: "t", Region: "r"}, instance.TerminationRequested{At: began}, instance.Terminated{})...)
	bad := encoded[instance.Event](w, "instance", "01C", instance.Codec.Encode, instance.Requested{Account: "acc", Name: seal("acc", label("01C"), "x"), Type: "t", Region: "r"})[0]
	bad.schema = 99
	w.append(bad)
	w.caughtUp()
	stop()
	list, err := w.reader.Overviews(t.Context(), "", false, 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("got %+v, %v, want 2", list, err)
	}
	if a := list[0]; a.ID != "01A" || a.Status != instance.Terminating || a.Machine != "i-01A" || !a.Since.Equal(since) || a.Parked || len(a.Name) == 0 {
		t.Errorf("got %+v, want 01A terminating with i-01A since %v, not parked, with a name", a, since)
	}
	if c := list[1]; c.ID != "01C" || c.Account != "" || c.Status != "" || !c.Parked {
		t.Errorf("got %+v, want 01C parked, without account and status", c)
	}
	if all, err := w.reader.Overviews(t.Context(), "01A", true, 1); err != nil || len(all) != 1 || all[0].ID != "01B" || all[0].Status != instance.StatusTerminated {
		t.Errorf("got %+v, %v, want 01B terminated", all, err)
	}
	for id, want := range map[string]string{"01A": "acc", "01C": "", "01D": ""} {
		if got, err := w.reader.Owner(t.Context(), id); got != want || err != nil {
			t.Errorf("owner of %s: got %q, %v, want %q", id, got, err, want)
		}
	}
}

// TestEveryAccountID lists accounts, also one whose first event is parked, page by page.
func TestEveryAccountID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.project(projections.All()...)
	for _, id := range []string{"01A", "01B", "01C"} {
		e := encoded[account.Event](w, "account", id, account.Codec.Encode, account.SignedUp{Email: seal(id, "email", id)})[0]
		if id == "01B" {
			e.schema = 99
		}
		w.append(e)
	}
	w.caughtUp()
	stop()
	var all []string
	for after := ""; ; {
		page, err := w.reader.EveryAccountID(t.Context(), after, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		all, after = append(all, page...), page[len(page)-1]
	}
	if want := []string{"01A", "01B", "01C"}; !slices.Equal(all, want) {
		t.Errorf("got %v, want %v", all, want)
	}
}
