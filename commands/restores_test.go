package commands_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/restore"
	"github.com/cloudbot-ai/control-plane/domain/session"
)

// paged returns ids page by page.
func paged(ids ...string) func(context.Context, string, int) ([]string, error) {
	slices.Sort(ids)
	return func(_ context.Context, after string, limit int) (page []string, _ error) {
		for _, id := range ids {
			if id > after && len(page) < limit {
				page = append(page, id)
			}
		}
		return page, nil
	}
}

// A restore ends every session, every API token and every unused enrolment, and nothing else. A damaged session does not stop it.
func TestFinishRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, first := w.SignUp(t, "ada@example.org")
	_, second := w.SignUp(t, "bob@example.org")
	waiting, enrolled := w.runningInstance(t, o), w.runningInstance(t, o)
	key := []byte(strings.Repeat("k", 32))
	used, _ := w.Tokens.Token(enrolled, 1, "k1")
	if _, err := w.Guests.Enroll(t.Context(), used, key); err != nil {
		t.Fatal(err)
	}
	_, apiToken := w.makeToken(t, o, ci)
	w.makeToken(t, o, ci)
	c := &commands.Restore{
		Log:      w.Log,
		Live:     func(context.Context) ([]string, int64, error) { return []string{waiting, enrolled}, 0, nil },
		Sessions: paged(first.Session, second.Session, "01NEVER"),
		Accounts: paged(first.Account, second.Account, "01NEVER"),
	}
	made := w.Clock.Now().Add(-time.Hour)
	done, damaged, err := c.Finish(t.Context(), restore.Finish{Epoch: 2, Backup: "01B", Position: 7, MadeAt: made})
	if err != nil || damaged != 0 || done.Sessions != 2 || done.Enrolments != 1 || done.Tokens != 2 {
		t.Fatalf("got %+v, %d damaged, %v, want 2 sessions, 2 API tokens and 1 enrolment", done, damaged, err)
	}
	for _, login := range []commands.Login{first, second} {
		if _, err := w.Accounts.Refresh(t.Context(), commands.Origin{}, login.Session, login.Leaf.TokenID, ""); !errors.Is(err, session.ErrEnded) {
			t.Errorf("refresh: got %v, want %v", err, session.ErrEnded)
		}
	}
	if _, _, err := w.Accounts.Present(t.Context(), commands.Origin{}, apiToken); !errors.Is(err, commands.ErrBadToken) {
		t.Errorf("an API token: got %v, want %v", err, commands.ErrBadToken)
	}
	token, _ := w.Tokens.Token(waiting, 1, "k1")
	if _, err := w.Guests.Enroll(t.Context(), token, key); !errors.Is(err, instance.ErrEnrolment) {
		t.Errorf("an unused token: got %v, want %v", err, instance.ErrEnrolment)
	}
	if got, _, err := w.Guests.Guest(t.Context(), enrolled); err != nil || string(got) != string(key) {
		t.Errorf("an enrolled guest: got %q, %v, want its key", got, err)
	}
	head := w.Last(t)
	if _, _, err := c.Finish(t.Context(), restore.Finish{Epoch: 2, MadeAt: made}); err != nil || w.Last(t) != head {
		t.Errorf("a second time: got %v and head %d, want nothing new after %d", err, w.Last(t), head)
	}
	if s, err := w.Log.Restores(t.Context()); err != nil || s.Epoch != 2 || !s.Within(made) {
		t.Errorf("got %+v, %v, want the restore", s, err)
	}
}

// regional is a cloud with a region.
type regional struct{ *fakeCloud }

func (regional) Region() string { return "here" }

// An operator gives a machine that the log does not know to an account, or removes it.
func TestStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	o, _ := w.SignUp(t, "ada@example.org")
	w.runningInstance(t, o) // the account is at its limit
	tagged := func(machine, id string) machines.Tagged {
		return machines.Tagged{Machine: machines.Machine{ID: machine, Seen: instance.SeenRunning}, Instance: id, Attempt: 3, Account: o.Account, Token: id + "-3", Type: "small"}
	}
	cloud := &fakeCloud{late: map[string]bool{}, machines: []machines.Tagged{tagged("m-1", "01LOST"), tagged("m-2", "01OTHER")}}
	c := &commands.Strangers{Log: w.Log, Vault: w.Vault, Cloud: regional{cloud}, Tokens: w.Tokens, Every: time.Nanosecond}
	if _, err := c.Adopt(t.Context(), cloud.machines[0], "01NOBODY", "n"); err == nil || !strings.Contains(err.Error(), "the log has no account") {
		t.Errorf("an unknown account: got %v, want a refusal", err)
	}
	copied := cloud.machines[0]
	copied.Token = "another"
	if _, err := c.Adopt(t.Context(), copied, o.Account, "n"); err == nil || !strings.Contains(err.Error(), "its tags do not name") {
		t.Errorf("a copied machine: got %v, want a refusal", err)
	}
	for range 2 {
		if _, err := c.Adopt(t.Context(), cloud.machines[0], o.Account, "Recovered"); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.Log.Instance(t.Context(), "01LOST")
	if err != nil || s.Machine != "m-1" || s.Account != o.Account || s.Spec.Region != "here" {
		t.Errorf("got %+v, %v, want an instance with machine m-1", s, err)
	}
	token, _ := w.Tokens.Token("01LOST", 3, "k1")
	if _, err := w.Guests.Enroll(t.Context(), token, []byte(strings.Repeat("k", 32))); err != nil {
		t.Errorf("its guest: got %v, want it enrolled", err)
	}
	other := cloud.machines[1]
	other.Instance, other.Token = "01LOST", "01LOST-3"
	if _, err := c.Adopt(t.Context(), other, o.Account, "n"); err == nil || !strings.Contains(err.Error(), "has another machine") {
		t.Errorf("a second machine of the instance: got %v, want a refusal", err)
	}
	if err := c.Remove(t.Context(), cloud.machines[1]); err != nil || !slices.Equal(cloud.ended, []string{"m-2"}) {
		t.Errorf("got %v and %v terminated, want m-2", err, cloud.ended)
	}
}
