package commands_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// shelf is a store of chats in memory.
type shelf struct {
	mu     sync.Mutex
	sealed map[string][]byte
	at     map[string]time.Time
	before func() // runs before a copy is kept
}

func (s *shelf) PutChats(_ context.Context, _, id string, at time.Time, sealed []byte) error {
	if s.before != nil {
		s.before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed[id], s.at[id] = sealed, at
	return nil
}

func (s *shelf) GetChats(_ context.Context, _, id string) ([]byte, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sealed[id], s.at[id], nil
}

func (s *shelf) DropChats(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sealed, id)
	return nil
}

func TestSavedChats(t *testing.T) {
	t.Parallel()
	w := commandstest.NewWorld(5)
	kept := &shelf{sealed: map[string][]byte{}, at: map[string]time.Time{}}
	c := &commands.Chats{Log: w.Log, Vault: w.Vault, Store: kept}
	ada, _ := w.SignUp(t, "ada@example.com")
	eve, _ := w.SignUp(t, "eve@example.com")
	create := func() string {
		t.Helper()
		out, err := w.Instances.Create(t.Context(), ada, "", "")
		if err != nil {
			t.Fatal(err)
		}
		return out.Answer.ID
	}
	one, two := create(), create()
	at := w.Clock.Now().Add(1234567 * time.Nanosecond)
	text := []byte(strings.Repeat("what the user said ", 1000))
	if _, _, err := c.Read(t.Context(), ada.Account, one); !errors.Is(err, commands.ErrNoChats) {
		t.Errorf("before a copy: got %v, want %v", err, commands.ErrNoChats)
	}
	if err := c.Save(t.Context(), ada.Account, one, at, text); err != nil {
		t.Fatal(err)
	}
	got, when, err := c.Read(t.Context(), ada.Account, one)
	if err != nil || !bytes.Equal(got, text) || !when.Equal(at.Truncate(time.Millisecond)) {
		t.Errorf("got %d bytes of %v and %v, want %d of %v", len(got), when, err, len(text), at)
	}
	if s := kept.sealed[one]; len(s) > len(text)/10 || bytes.Contains(s, []byte("the user")) {
		t.Errorf("kept: got %d bytes, want them sealed and compressed", len(s))
	}
	for who, account := range map[string]string{"another tenant": eve.Account, "no account": ""} {
		if _, _, err := c.Read(t.Context(), account, one); !errors.Is(err, instance.ErrNotFound) {
			t.Errorf("%s reads: got %v, want %v", who, err, instance.ErrNotFound)
		}
		if err := c.Save(t.Context(), account, one, at.Add(time.Minute), text); !errors.Is(err, instance.ErrNotFound) {
			t.Errorf("%s saves: got %v, want %v", who, err, instance.ErrNotFound)
		}
	}
	if err := c.Save(t.Context(), ada.Account, "01UNKNOWN", at, text); !errors.Is(err, instance.ErrNotFound) {
		t.Errorf("an unknown instance: got %v, want %v", err, instance.ErrNotFound)
	}

	// Swapped rows do not open, and neither does one with another time.
	kept.sealed[two], kept.at[two] = kept.sealed[one], kept.at[one]
	if _, _, err := c.Read(t.Context(), ada.Account, two); err == nil {
		t.Error("another desktop's row: got no error, want one")
	}
	delete(kept.sealed, two)
	kept.at[one] = kept.at[one].Add(time.Second)
	if _, _, err := c.Read(t.Context(), ada.Account, one); err == nil {
		t.Error("a row with another time: got no error, want one")
	}
	kept.at[one] = kept.at[one].Add(-time.Second)

	// A termination, also between the check and the copy.
	terminate := func(id string) {
		t.Helper()
		if _, err := w.Instances.Terminate(t.Context(), ada, id); err != nil {
			t.Fatal(err)
		}
	}
	terminate(one)
	if _, _, err := c.Read(t.Context(), ada.Account, one); !errors.Is(err, commands.ErrNoChats) {
		t.Errorf("after a termination: got %v, want %v", err, commands.ErrNoChats)
	}
	delete(kept.sealed, one)
	if err := c.Save(t.Context(), ada.Account, one, at.Add(time.Hour), text); !errors.Is(err, instance.ErrGone) || kept.sealed[one] != nil {
		t.Errorf("a late copy: got %v and %d bytes, want %v and none", err, len(kept.sealed[one]), instance.ErrGone)
	}
	kept.before = func() { terminate(two) }
	if err := c.Save(t.Context(), ada.Account, two, at, text); !errors.Is(err, instance.ErrGone) || kept.sealed[two] != nil {
		t.Errorf("a termination meanwhile: got %v and %d bytes, want %v and none", err, len(kept.sealed[two]), instance.ErrGone)
	}
	kept.before = nil

	three := create()
	if err := w.Vault.DropKey(t.Context(), ada.Account); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(t.Context(), ada.Account, three, at, text); err == nil || kept.sealed[three] != nil {
		t.Errorf("after an erasure: got %v and %d bytes, want an error and none", err, len(kept.sealed[three]))
	}
}
