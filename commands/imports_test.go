package commands_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// imports returns an import from a cloud with these machines.
func (w *world) imports(list ...machines.Machine) *commands.Import {
	cloud := &fakeCloud{Cloud: w.Instances.Cloud, late: map[string]bool{}}
	for _, m := range list {
		cloud.machines = append(cloud.machines, machines.Tagged{Machine: m})
	}
	return &commands.Import{
		Log: w.Instances.Log, Vault: w.Vault, Blind: commandstest.Blind, Outdated: w.Passwords.Outdated, Cloud: cloud,
		Known: func(context.Context, string) (string, error) { return "", nil },
	}
}

// unchanged checks that do writes no event.
func (w *world) unchanged(t *testing.T, what string, do func()) {
	t.Helper()
	before := w.Last(t)
	do()
	if got := w.Last(t); got != before {
		t.Errorf("%s: got %d new events, want none", what, got-before)
	}
}

func TestImportAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	ctx := t.Context()
	made := w.Clock.Now().Add(-1000 * time.Hour)
	ada := commands.ForeignAccount{ID: "7d1f0a5e-1111-4000-8000-000000000001", Email: " Ada@Example.ORG", Hash: w.Passwords.OutdatedHash("hi"), At: made}
	dry := w.imports()
	dry.Dry = true
	var foreseen string
	w.unchanged(t, "dry run", func() {
		var fate commands.Fate
		var err error
		if foreseen, fate, err = dry.Account(ctx, ada); fate != commands.Added || err != nil {
			t.Errorf("dry run: got %s, %v, want added", fate, err)
		}
		if fate, err := dry.Key(ctx, foreseen, "openai", "sk-0123456789"); fate != commands.Added || err != nil {
			t.Errorf("dry run of a key: got %s, %v, want added", fate, err)
		}
	})
	if _, err := w.Vault.Seal(ctx, foreseen, "x", nil); err == nil {
		t.Error("dry run: got a data key, want none")
	}
	in := w.imports()
	id, fate, err := in.Account(ctx, ada)
	if id != foreseen || fate != commands.Added || err != nil {
		t.Fatalf("got %s %s, %v, want %s added", id, fate, err, foreseen)
	}
	p, err := w.Accounts.Profile(ctx, id)
	if err != nil || p.Email != "ada@example.org" || !p.CreatedAt.Equal(made) {
		t.Errorf("got %+v, %v, want ada@example.org of %v", p, err, made)
	}
	w.unchanged(t, "again", func() {
		if again, fate, err := in.Account(ctx, ada); again != id || fate != commands.Unchanged || err != nil {
			t.Errorf("again: got %s %s, %v, want %s unchanged", again, fate, err, id)
		}
	})
	// Its password changes there before its owner comes here.
	ada.Hash = w.Passwords.OutdatedHash("an old password")
	if _, fate, err := in.Account(ctx, ada); fate != commands.Updated || err != nil {
		t.Errorf("another password there: got %s, %v, want updated", fate, err)
	}
	if _, err := w.Accounts.LogIn(ctx, commands.Origin{}, "ada@example.org", "hi", "browser"); !errors.Is(err, commands.ErrCredentials) {
		t.Errorf("the password before: got %v, want error %v", err, commands.ErrCredentials)
	}
	if _, err := w.Accounts.LogIn(ctx, commands.Origin{}, "ada@example.org", "an old password", "browser"); err != nil {
		t.Errorf("the old password: got %v, want a log-in", err)
	}
	if got := w.last(t); got != "account.password_rehashed" {
		t.Errorf("after the first log-in: got the event %s, want account.password_rehashed", got)
	}
	if _, err := w.Accounts.LogIn(ctx, commands.Origin{}, "ada@example.org", "an old password", "browser"); err != nil || w.last(t) != "session.started" {
		t.Errorf("the second log-in: got %v and the event %s, want session.started", err, w.last(t))
	}
	ada.Hash = w.Passwords.OutdatedHash("changed there too late")
	w.unchanged(t, "too late", func() {
		if _, fate, err := in.Account(ctx, ada); fate != commands.Kept || err != nil {
			t.Errorf("a password changed there after a log-in here: got %s, %v, want kept", fate, err)
		}
	})

	bob, _ := w.SignUp(t, "bob@example.org")
	w.unchanged(t, "refusals", func() {
		for what, c := range map[string]struct {
			a    commands.ForeignAccount
			want error
		}{
			"signed up here":   {commands.ForeignAccount{ID: "b", Email: "BOB@example.org", Hash: ada.Hash}, commands.UnfitTaken},
			"a second of one":  {commands.ForeignAccount{ID: "c", Email: "ada@example.org", Hash: ada.Hash}, commands.UnfitTaken},
			"moved":            {commands.ForeignAccount{ID: ada.ID, Email: "countess@example.org", Hash: ada.Hash}, commands.UnfitMoved},
			"moved to another": {commands.ForeignAccount{ID: ada.ID, Email: "bob@example.org", Hash: ada.Hash}, commands.UnfitMoved},
			"no address":       {commands.ForeignAccount{ID: "d", Email: "nonsense", Hash: ada.Hash}, commands.ErrEmail},
		} {
			for _, in := range []*commands.Import{in, dry} {
				if _, fate, err := in.Account(ctx, c.a); !errors.Is(err, c.want) {
					t.Errorf("%s, dry run %v: got %s, %v, want error %v", what, in.Dry, fate, err, c.want)
				}
			}
		}
	})
	if _, err := w.Accounts.LogIn(ctx, commands.Origin{}, "bob@example.org", "correct horse", "browser"); err != nil {
		t.Errorf("%s: got %v, want a log-in as before", bob.Account, err)
	}
	// A time in the future, or none, is the present.
	id, _, err = in.Account(ctx, commands.ForeignAccount{ID: "e", Email: "eve@example.org", Hash: ada.Hash, At: w.Clock.Now().Add(time.Hour)})
	if p, _ := w.Accounts.Profile(ctx, id); err != nil || !p.CreatedAt.Equal(w.Clock.Now()) {
		t.Errorf("made in the future: got %v, %v, want %v", p.CreatedAt, err, w.Clock.Now())
	}
}

// Log-ins at the same time all succeed, although one of them replaces the hash that the other compares.
func TestFirstLogInsAtTheSameTime(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	in := w.imports()
	if _, _, err := in.Account(t.Context(), commands.ForeignAccount{ID: "a", Email: "ada@example.org", Hash: w.Passwords.OutdatedHash("an old password")}); err != nil {
		t.Fatal(err)
	}
	first := func() {
		if _, err := w.Accounts.LogIn(t.Context(), commands.Origin{}, "ada@example.org", "an old password", "browser"); err != nil {
			t.Errorf("got %v, want a log-in", err)
		}
	}
	w.Passwords.Meanwhile = first // replaces the hash while the other log-in compares it
	first()
	if s := w.last(t); s != "session.started" {
		t.Errorf("got the event %s last, want session.started: the hash is replaced once", s)
	}
	// One whose password changes between the comparison and the session is refused.
	if _, _, err := in.Account(t.Context(), commands.ForeignAccount{ID: "b", Email: "bob@example.org", Hash: w.Passwords.OutdatedHash("an old password")}); err != nil {
		t.Fatal(err)
	}
	id, _ := w.Accounts.Owner(t.Context(), "bob@example.org")
	w.Passwords.Meanwhile = func() {
		if _, err := w.Accounts.ChangePassword(t.Context(), commands.Origin{Account: id}, "an old password", "another password", nil); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.Accounts.LogIn(t.Context(), commands.Origin{}, "bob@example.org", "an old password", "browser"); !errors.Is(err, commands.ErrCredentials) {
		t.Errorf("a password changed meanwhile: got %v, want error %v", err, commands.ErrCredentials)
	}
}

func TestImportKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	ctx := t.Context()
	in := w.imports()
	id, _, err := in.Account(ctx, commands.ForeignAccount{ID: "a", Email: "ada@example.org", Hash: w.Passwords.OutdatedHash("hi")})
	if err != nil {
		t.Fatal(err)
	}
	ada := commands.Origin{Account: id}
	check := func(what, provider, key string, want commands.Fate, events int64) {
		t.Helper()
		before := w.Last(t)
		if fate, err := in.Key(ctx, id, provider, key); fate != want || err != nil || w.Last(t)-before != events {
			t.Errorf("%s: got %s, %v and %d events, want %s and %d", what, fate, err, w.Last(t)-before, want, events)
		}
	}
	check("new", "OpenAI", "sk-first-0001", commands.Added, 1)
	check("the same", "openai", "sk-first-0001", commands.Unchanged, 0)
	check("another there", "openai", "sk-second-0002", commands.Updated, 1)
	w.environment(t, id, map[string]string{"OPENAI_API_KEY": "sk-second-0002"})
	if _, err := w.Keys.Store(ctx, ada, "openai", "sk-here-0003", true); err != nil {
		t.Fatal(err)
	}
	check("another here", "openai", "sk-second-0002", commands.Kept, 0)
	check("new", "xai", "sk-xai-0001", commands.Added, 1)
	if _, err := w.Keys.Remove(ctx, ada, "xai"); err != nil {
		t.Fatal(err)
	}
	check("removed here", "xai", "sk-xai-0001", commands.Kept, 0)
	w.environment(t, id, map[string]string{"OPENAI_API_KEY": "sk-here-0003"})
	w.unchanged(t, "refusals", func() {
		var unfit commands.Unfit
		if _, err := in.Key(ctx, id, "acme", "sk-0123456789"); !errors.As(err, &unfit) || !strings.Contains(string(unfit), `"acme"`) {
			t.Errorf("unknown provider: got %v, want a reason that names it", err)
		}
		if _, err := in.Key(ctx, id, "openai", "short"); !errors.Is(err, commands.ErrAPIKey) {
			t.Errorf("no key: got %v, want error %v", err, commands.ErrAPIKey)
		}
	})
}

func TestImportMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	ctx := t.Context()
	const one, two, three = "i-0123456789abcdef0", "i-0123456789abcdef1", "i-0123456789abcdef2"
	in := w.imports(machines.Machine{ID: one, Seen: instance.SeenRunning, Address: "203.0.113.7"}, machines.Machine{ID: two, Seen: instance.SeenStopped},
		machines.Machine{ID: three, Seen: instance.SeenGone}, machines.Machine{ID: "i-0123456789abcdef3", Seen: instance.SeenStopping},
		machines.Machine{ID: "i-0123456789abcdef4", Seen: instance.SeenRunning})
	acc, _, err := in.Account(ctx, commands.ForeignAccount{ID: "a", Email: "ada@example.org", Hash: w.Passwords.OutdatedHash("hi")})
	if err != nil {
		t.Fatal(err)
	}
	made := w.Clock.Now().Add(-time.Hour)
	take := func(id, machine string) (string, commands.Fate, error) {
		return in.Machine(ctx, acc, commands.ForeignMachine{ID: id, Name: strings.Repeat("ä", 70) + "\x00", Machine: machine, At: made})
	}
	in.Dry = true
	w.unchanged(t, "dry run", func() {
		if _, fate, err := take("one", one); fate != commands.Added || err != nil {
			t.Errorf("dry run: got %s, %v, want added", fate, err)
		}
	})
	in.Dry = false
	running, fate, err := take("one", one)
	if fate != commands.Added || err != nil {
		t.Fatalf("got %s, %v, want added", fate, err)
	}
	stopped, fate, err := take("two", two) // beyond the account's limit, but it exists
	if fate != commands.Added || err != nil {
		t.Fatalf("got %s, %v, want added", fate, err)
	}
	for id, want := range map[string]instance.Status{running: instance.Running, stopped: instance.Stopped} {
		s, err := w.Instances.Find(ctx, acc, id)
		if err != nil || s.Status != want || s.Ready() || !s.Guestless() {
			t.Errorf("got %+v, %v, want %s without a guest", s, err, want)
		}
	}
	if got := w.name(t, acc, running); got != strings.Repeat("ä", 64) {
		t.Errorf("name: got %q, want 64 characters", got)
	}
	w.unchanged(t, "again", func() {
		if _, fate, err := take("one", one); fate != commands.Unchanged || err != nil {
			t.Errorf("again: got %s, %v, want unchanged", fate, err)
		}
	})
	ada := commands.Origin{Account: acc}
	if _, err := w.Instances.Create(ctx, ada, "", ""); commandstest.Code(err) != "quota_exceeded" {
		t.Errorf("create: got %v, want quota_exceeded", err)
	}
	if out, err := w.Instances.Stop(ctx, ada, running); err != nil || out.Answer.Status != instance.Stopping {
		t.Errorf("stop: got %+v, %v, want stopping", out.Answer, err)
	}
	if out, err := w.Instances.Start(ctx, ada, stopped); err != nil || out.Answer.Status != instance.Starting {
		t.Errorf("start: got %+v, %v, want starting", out.Answer, err)
	}
	w.unchanged(t, "refusals", func() {
		for machine, want := range map[string]error{
			three: commands.UnfitGone, "i-0123456789abcdef3": commands.UnfitMoving, "": commands.UnfitMachine, "local-1": commands.UnfitMachine,
			"i-0123456789abcdef9": commands.Unfit("EC2 does not list its machine in test; is AWS_REGION the original's?"),
		} {
			if _, _, err := take("other "+machine, machine); !errors.Is(err, want) {
				t.Errorf("%q: got %v, want error %v", machine, err, want)
			}
		}
		in.Known = func(context.Context, string) (string, error) { return running, nil }
		if _, _, err := take("five", "i-0123456789abcdef4"); !errors.Is(err, commands.Unfit("desktop "+running+" here has its machine")) {
			t.Errorf("a machine of another desktop: got %v, want a refusal", err)
		}
	})
}

// An operator can terminate a machine that was taken over and has no tags of ours.
func TestForceWhatWasTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	const machine = "i-0123456789abcdef0"
	in := w.imports(machines.Machine{ID: machine, Seen: instance.SeenRunning})
	acc, _, err := in.Account(t.Context(), commands.ForeignAccount{ID: "a", Email: "ada@example.org", Hash: w.Passwords.OutdatedHash("hi")})
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := in.Machine(t.Context(), acc, commands.ForeignMachine{ID: "one", Machine: machine})
	if err != nil {
		t.Fatal(err)
	}
	w.damage(t, id)
	force, cloud := w.force()
	cloud.machines = []machines.Tagged{{Machine: machines.Machine{ID: machine, Seen: instance.SeenRunning}}}
	done, err := force.Terminate(t.Context(), id)
	if err != nil || len(done.Machines) != 1 || len(cloud.ended) != 1 || done.Account != acc || !done.Released {
		t.Errorf("got %+v, %v and ended %v, want %s ended and the slot of %s released", done, err, cloud.ended, machine, acc)
	}
	if s, err := w.Instances.Find(t.Context(), acc, id); err != nil || s.Status != instance.StatusTerminated {
		t.Errorf("got %s, %v, want terminated", s.Status, err)
	}
}

// last returns the type of the last event.
func (w *world) last(t *testing.T) string {
	t.Helper()
	name := ""
	for e, err := range w.ReadAll(t.Context(), w.Last(t)-1) {
		if err != nil {
			t.Fatal(err)
		}
		name = e.Type
	}
	return name
}
