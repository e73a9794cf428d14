package secrets

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/commands"
)

func newChats(t *testing.T, accounts ...string) (Chats, *Vault) {
	t.Helper()
	pool := must[*pgxpool.Pool](t)(pgxpool.New(t.Context(), pgtest.New(t)))
	t.Cleanup(pool.Close)
	v := must[*Vault](t)(OpenVault(t.Context(), VaultConfig{Pool: pool, Keyring: ring(t, keyA)}))
	for _, a := range accounts {
		if err := v.NewKey(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	return Chats{pool}, v
}

// holds checks what is kept; "": nothing.
func (c Chats) holds(t *testing.T, account, instance, want string) {
	t.Helper()
	sealed, _, err := c.GetChats(t.Context(), account, instance)
	if err != nil || string(sealed) != want {
		t.Errorf("chats of %s by %s: got %.20q %v, want %.20q", instance, account, sealed, err, want)
	}
}

func TestNewerChatsStay(t *testing.T) {
	t.Parallel()
	c, _ := newChats(t, "a", "b")
	now := time.Now().UTC().Truncate(time.Second)
	put := func(account, instance, text string, at time.Time) {
		t.Helper()
		if err := c.PutChats(t.Context(), account, instance, at, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	c.holds(t, "a", "i1", "")
	put("a", "i1", "first", now)
	put("a", "i1", "second", now.Add(time.Second))
	put("a", "i1", "late", now)
	c.holds(t, "a", "i1", "second")
	put("b", "i1", "another account's", now.Add(30*time.Second))
	c.holds(t, "a", "i1", "second")
	c.holds(t, "b", "i1", "")
	put("a", "i1", "of a wrong clock", now.Add(time.Hour))
	put("a", "i1", "third", now.Add(2*time.Second))
	c.holds(t, "a", "i1", "third")
	if _, at, err := c.GetChats(t.Context(), "a", "i1"); err != nil || !at.Equal(now.Add(2*time.Second)) {
		t.Errorf("time: got %v %v, want %v", at, err, now.Add(2*time.Second))
	}
	put("a", "i2", "another desktop", now)
	if err := c.DropChats(t.Context(), "i1"); err != nil {
		t.Fatal(err)
	}
	c.holds(t, "a", "i1", "")
	c.holds(t, "a", "i2", "another desktop")
}

// An erased account has no rows, and none can be added, also by a replica that still has the key in memory.
func TestChatsGoWithTheKey(t *testing.T) {
	t.Parallel()
	c, v := newChats(t, "a", "b")
	other := must[*Vault](t)(OpenVault(t.Context(), VaultConfig{Pool: c.Pool, Keyring: ring(t, keyA)}))
	sealed := must[[]byte](t)(other.Seal(t.Context(), "a", "chats|i1", []byte("hello")))
	for account, instance := range map[string]string{"a": "i1", "b": "i2"} {
		if err := c.PutChats(t.Context(), account, instance, time.Now(), sealed); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.DropKey(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := c.Pool.QueryRow(t.Context(), `SELECT count(*) FROM vault.chats WHERE account_id = 'a'`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("rows of an erased account: got %d %v, want 0", rows, err)
	}
	late := must[[]byte](t)(other.Seal(t.Context(), "a", "chats|i1", []byte("late")))
	if err := c.PutChats(t.Context(), "a", "i1", time.Now(), late); !errors.Is(err, ErrErased) {
		t.Errorf("chats after the erasure: got %v, want %v", err, ErrErased)
	}
	c.holds(t, "a", "i1", "")
	c.holds(t, "b", "i2", string(sealed))
}

func TestChatsOfAnAccountAreBounded(t *testing.T) {
	t.Parallel()
	c, _ := newChats(t, "a", "b")
	large := bytes.Repeat([]byte("x"), maxAccountChats/2)
	for _, instance := range []string{"i1", "i2", "i2"} {
		if err := c.PutChats(t.Context(), "a", instance, time.Now(), large); err != nil {
			t.Fatalf("%s: %v", instance, err)
		}
	}
	if err := c.PutChats(t.Context(), "a", "i3", time.Now(), []byte("x")); !errors.Is(err, commands.ErrChatsFull) {
		t.Errorf("beyond the limit: got %v, want %v", err, commands.ErrChatsFull)
	}
	if err := c.PutChats(t.Context(), "b", "i4", time.Now(), []byte("x")); err != nil {
		t.Errorf("another account: got %v, want no error", err)
	}
}

// The sweeper drops the chats of instances that ended, and keeps those of unknown ones.
func TestChatsOfEndedInstancesAreDropped(t *testing.T) {
	t.Parallel()
	c, _ := newChats(t, "a")
	for _, i := range []struct {
		id, status, age string
		kept            bool
	}{
		{"i1", "stopped", "90 days", true}, {"i2", "terminating", "0", false}, {"i3", "terminated", "0", false},
		{"i4", "failed", "29 days", true}, {"i5", "failed", "31 days", false}, {"i6", "", "", true},
	} {
		if err := c.PutChats(t.Context(), "a", i.id, time.Now(), []byte(i.id)); err != nil {
			t.Fatal(err)
		}
		if i.status == "" {
			continue
		}
		if _, err := c.Pool.Exec(t.Context(), `INSERT INTO read.instances (id, account, name, status, phase, type, region, created_at, updated_at, phase_since, position)
			VALUES ($1, 'a', '', $2, 'ready', 't', 'r', now(), now() - $3::interval, now(), 1)`, i.id, i.status, i.age); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := c.Pool.Begin(t.Context()) // an erasure that has deleted one of them
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `DELETE FROM vault.chats WHERE instance_id = 'i3'`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := errors.Join(c.DropEnded(ctx), tx.Commit(t.Context())); err != nil {
		t.Fatalf("beside an erasure: %v", err)
	}
	for id, want := range map[string]string{"i1": "i1", "i2": "", "i3": "", "i4": "i4", "i5": "", "i6": "i6"} {
		c.holds(t, "a", id, want)
	}
	if err := c.DropAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.holds(t, "a", "i1", "")
}

// A copy that is being saved does not keep Rewrap from its account's key.
func TestRewrapBesideChats(t *testing.T) {
	t.Parallel()
	c, _ := newChats(t, "a")
	tx, err := c.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `INSERT INTO vault.chats (account_id, instance_id, saved_at, sealed) VALUES ('a', 'i1', now(), '')`); err != nil {
		t.Fatal(err)
	}
	v := must[*Vault](t)(OpenVault(t.Context(), VaultConfig{Pool: c.Pool, Keyring: ring(t, keyB, keyA)}))
	if n, err := v.Rewrap(t.Context()); err != nil || n != 2 {
		t.Errorf("Rewrap: got %d %v, want 2", n, err)
	}
}
