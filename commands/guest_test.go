package commands_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

type (
	ctx = context.Context
	seq = iter.Seq2[eventstore.Event, error]
)

func base64JSON(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }

func TestEnrol(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	id, other := w.runningInstance(t, o), w.runningInstance(t, o)
	key, key2 := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	token, _ := w.Tokens.Token(id, 1, "k1")
	if _, _, err := w.Guests.Guest(t.Context(), id); !errors.Is(err, commands.ErrNotEnrolled) {
		t.Errorf("before enrolling: got %v, want error %v", err, commands.ErrNotEnrolled)
	}
	oldKey, _ := w.Tokens.Token(id, 1, "k0")
	nextAttempt, _ := w.Tokens.Token(id, 2, "k1")
	nothing, _ := w.Tokens.Token("01NOTHING", 1, "k1")
	head := w.Last(t)
	for name, c := range map[string]struct {
		token string
		key   []byte
	}{
		"garbage": {"garbage", key}, "empty": {"", key}, "short key": {token, key[:31]}, "no key": {token, nil},
		"made with another key": {oldKey, key}, "of an attempt to come": {nextAttempt, key}, "cut": {token[:len(token)-1], key},
		"of another machine": {strings.Replace(token, id, other, 1), key},
	} {
		if _, err := w.Guests.Enroll(t.Context(), c.token, c.key); !errors.Is(err, instance.ErrEnrolment) {
			t.Errorf("%s: got %v, want error %v", name, err, instance.ErrEnrolment)
		}
	}
	if _, err := w.Guests.Enroll(t.Context(), nothing, key); commandstest.Code(err) == "" {
		t.Errorf("of no instance: got %v, want a code", err)
	}
	if w.Last(t) != head {
		t.Errorf("refusals wrote events: got %v, want %v", w.Last(t), head)
	}
	for range 2 {
		if got, err := w.Guests.Enroll(t.Context(), token, key); got != id || err != nil {
			t.Errorf("got %q, %v, want got == %v and no error", got, err, id)
		}
	}
	if w.Last(t) != head+1 {
		t.Errorf("got %d events for one enrolment, want w.Last(t) == %v", w.Last(t)-head, head+1)
	}
	if _, err := w.Guests.Enroll(t.Context(), token, key2); !errors.Is(err, instance.ErrEnrolment) {
		t.Errorf("another key: got %v, want error %v", err, instance.ErrEnrolment)
	}
	if public, account, err := w.Guests.Guest(t.Context(), id); err != nil || account != o.Account || !bytes.Equal(public, key) {
		t.Errorf("got %x of %s, %v, want no error, account == %v and public == %v", public, account, err, o.Account, key)
	}
	w.execute(t, id, instance.Observe{Machine: "m-" + id, Seen: instance.SeenGone, At: w.Clock.Now()})
	if _, _, err := w.Guests.Guest(t.Context(), id); !errors.Is(err, instance.ErrGone) {
		t.Errorf("after the end: got %v, want error %v", err, instance.ErrGone)
	}
}

func TestEnrolTooLate(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, o)
	token, _ := w.Tokens.Token(id, 1, "k1")
	w.Clock.Advance(instance.EnrolWithin + time.Second)
	if _, err := w.Guests.Enroll(t.Context(), token, bytes.Repeat([]byte{1}, 32)); !errors.Is(err, instance.ErrEnrolment) {
		t.Errorf("got %v, want error %v", err, instance.ErrEnrolment)
	}
}

// Of two machines with one token, one owns the instance and the other is refused.
func TestEnrolInParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, o)
	token, _ := w.Tokens.Token(id, 1, "k1")
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			_, err := w.Guests.Enroll(t.Context(), token, bytes.Repeat([]byte{byte(i)}, 32))
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, instance.ErrEnrolment) {
				t.Errorf("got %v, want error %v", err, instance.ErrEnrolment)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("got %d keys bound, want 1", won.Load())
	}
}

// However often a machine reports new versions, the log accepts a bounded number of reports.
func TestVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, o)
	head := w.Last(t)
	for i := range 3 * instance.MaxReports {
		for range 2 {
			if err := w.Guests.Versions(t.Context(), id, fmt.Sprint("boot", i), map[string]string{"guest": fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := w.Last(t) - head; got != instance.MaxReports {
		t.Errorf("got %d events, want %v", got, instance.MaxReports)
	}
	w.Clock.Advance(instance.ReportsWithin)
	if err := w.Guests.Versions(t.Context(), id, "b", map[string]string{"guest": "new"}); err != nil || w.Last(t)-head != instance.MaxReports+1 {
		t.Errorf("got %v, %d events, want no error and w.Last(t)-head == %v", err, w.Last(t)-head, instance.MaxReports+1)
	}
}

func TestReached(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, o)
	head := w.Last(t)
	for _, p := range []instance.Phase{"desktop", "booting", "desktop", "party", "agent", "ready", "agent", "allocating"} {
		if err := w.Guests.Reached(t.Context(), id, "boot-1", p, strings.Repeat("ü\x00\u202e", 300)); err != nil {
			t.Error(p, err)
		}
	}
	var order []string
	for e, err := range w.ReadAll(t.Context(), head) {
		if err != nil {
			t.Fatal(err)
		}
		ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			t.Fatal(err)
		}
		p := ev.(instance.PhaseReached)
		order = append(order, string(p.Phase))
		if len(p.Detail) > 200 || strings.ContainsAny(p.Detail, "\x00\u202e") || !p.At.Equal(w.Clock.Now()) {
			t.Errorf("got %+v, want len(p.Detail) <= 200, !strings.ContainsAny(p.Detail, \"\\x00\\u202e\") and p.At.Equal(w.Clock.Now())", p)
		}
	}
	if strings.Join(order, " ") != "desktop agent ready" {
		t.Errorf("got %v, want strings.Join(order, \" \") == \"desktop agent ready\"", order)
	}
	if err := w.Guests.Reached(t.Context(), "01NOTHING", "b", instance.PhaseReady, ""); !errors.Is(err, instance.ErrNotFound) {
		t.Errorf("got %v, want error %v", err, instance.ErrNotFound)
	}
}

// No secret, e-mail address, password or name is in plain text in the log or its receipts.
func TestCanaries(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	ctx := t.Context()
	canaries := []string{"canary-mail", "canary-password", "canary-password-2", "canary-key-1234", "canary-key-5678", "canary-name", "canary-name-2"}
	login, err := w.Accounts.SignUp(ctx, commands.Origin{}, "Canary-Mail@example.org", "canary-password", "", "agent")
	if err != nil {
		t.Fatal(err)
	}
	o := commands.Origin{Account: login.Account}
	for i, do := range []func() error{
		func() error {
			_, err := w.Accounts.ChangePassword(ctx, o, "canary-password", "canary-password-2", nil)
			return err
		},
		func() error {
			_, err := w.Keys.Store(ctx, with(o, "a"), "openai", "canary-key-1234", false)
			return err
		},
		func() error { _, err := w.Keys.Store(ctx, with(o, "b"), "openai", "canary-key-5678", true); return err },
		func() error { _, err := w.Keys.Remove(ctx, with(o, "c"), "openai"); return err },
		func() error { _, err := w.Instances.Create(ctx, with(o, "d"), "canary-name", ""); return err },
		func() error {
			id := w.runningInstance(t, o)
			_, err := w.Instances.Rename(ctx, with(o, "e"), id, "canary-name-2")
			return err
		},
	} {
		if err := do(); err != nil {
			t.Fatal(i, err)
		}
	}
	var all bytes.Buffer
	for e, err := range w.ReadAll(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
		for _, field := range base64Fields(e.Data) {
			all.Write(field)
		}
	}
	for _, a := range w.Appends {
		if a.Receipt != nil {
			all.WriteString(a.Receipt.Key)
			all.Write(a.Receipt.Request)
			all.Write(a.Receipt.Response)
		}
	}
	hash, _ := w.Passwords.Hash(ctx, "canary-password")
	for _, c := range append(canaries, string(hash)) {
		if bytes.Contains(bytes.ToLower(all.Bytes()), bytes.ToLower([]byte(c))) || bytes.Contains(all.Bytes(), []byte(base64.StdEncoding.EncodeToString([]byte(c)))) {
			t.Errorf("got %q in the log, want it nowhere, encoded or not", c)
		}
	}
	if !bytes.Contains(all.Bytes(), []byte("5678")) || all.Len() < 2000 {
		t.Errorf("got a scan of %d bytes, want at least 2000 with 5678 in it", all.Len())
	}
}

// base64Fields returns the string values of a JSON object that are base64, decoded.
func base64Fields(data []byte) (fields [][]byte) {
	var object map[string]any
	if json.Unmarshal(data, &object) != nil {
		return nil
	}
	for _, v := range object {
		if s, ok := v.(string); ok {
			if b, err := base64.StdEncoding.DecodeString(s); err == nil {
				fields = append(fields, b)
			}
		}
	}
	return fields
}

// A machine's meter counts once, whatever is reported again, and only upwards.
func TestModelCost(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	o, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, o)
	for _, c := range []struct {
		meter  string
		total  int64
		events int64
	}{
		{"m1", 2500, 1}, {"m1", 2500, 0}, {"m1", 2000, 0}, {"m1", 4000, 1}, {"m2", 1000, 1}, {"m2", 0, 0}, {"m2", -7, 0}, {"", 9, 0},
		{"m2", instance.MaxModelCost + 1, 0},
	} {
		head := w.Last(t)
		if err := w.Guests.ModelCost(t.Context(), id, c.meter, c.total); err != nil || w.Last(t)-head != c.events {
			t.Errorf("a total of %d by %q: got %d events and %v, want %d", c.total, c.meter, w.Last(t)-head, err, c.events)
		}
	}
}
