package commands_test

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	ctx := t.Context()
	o, _ := w.SignUp(t, "ada@example.org")
	bob, _ := w.SignUp(t, "bob@example.org")
	if _, err := w.Keys.Store(ctx, o, "openai", "sk-first-0001", true); !errors.Is(err, apikey.ErrNotFound) {
		t.Errorf("replacing nothing: got %v, want error %v", err, apikey.ErrNotFound)
	}
	out, err := w.Keys.Store(ctx, with(o, "k1"), "openai", " sk-first-0001 ", false)
	if err != nil || out.Answer != (commands.StoredKey{Provider: "openai", Last4: "0001", UpdatedAt: w.Clock.Now()}) || out.Position != w.Last(t) {
		t.Errorf("got %+v, %v, want no error, out.Answer == %v and out.Position == %v", out, err, (commands.StoredKey{Provider: "openai", Last4: "0001", UpdatedAt: w.Clock.Now()}), w.Last(t))
	}
	if again, err := w.Keys.Store(ctx, with(o, "k1"), "openai", " sk-first-0001 ", false); err != nil || !again.Replayed || again.Answer != out.Answer {
		t.Errorf("got %+v, %v, want no error, again.Replayed and again.Answer == %v", again, err, out.Answer)
	}
	if _, err := w.Keys.Store(ctx, with(o, "k1"), "openai", "sk-other-0001", false); !errors.Is(err, commands.ErrKeyReused) {
		t.Errorf("got %v, want error %v", err, commands.ErrKeyReused)
	}
	if _, err := w.Keys.Store(ctx, o, "openai", "sk-second-0002", true); err != nil {
		t.Error(err)
	}
	if _, err := w.Keys.Store(ctx, o, "anthropic", "sk-ant-0003", false); err != nil {
		t.Error(err)
	}
	w.environment(t, o.Account, map[string]string{"OPENAI_API_KEY": "sk-second-0002", "ANTHROPIC_API_KEY": "sk-ant-0003"})
	w.environment(t, bob.Account, map[string]string{})
	if _, err := w.Keys.Remove(ctx, bob, "openai"); !errors.Is(err, apikey.ErrNotFound) {
		t.Errorf("another's key: got %v, want error %v", err, apikey.ErrNotFound)
	}
	if _, err := w.Keys.Remove(ctx, o, "openai"); err != nil {
		t.Error(err)
	}
	if _, err := w.Keys.Remove(ctx, o, "openai"); !errors.Is(err, apikey.ErrNotFound) {
		t.Errorf("removed twice: got %v, want error %v", err, apikey.ErrNotFound)
	}
	w.environment(t, o.Account, map[string]string{"ANTHROPIC_API_KEY": "sk-ant-0003"})
	head := w.Last(t)
	for _, bad := range []string{"", "short", "with space inside", "tab\tinside-it", "ünicode-key-1", strings.Repeat("x", 513), "nul\x00inside-1"} {
		if _, err := w.Keys.Store(ctx, o, "openai", bad, false); !errors.Is(err, commands.ErrAPIKey) {
			t.Errorf("%q: got %v, want error %v", bad, err, commands.ErrAPIKey)
		}
	}
	for _, err := range []error{
		func() error { _, err := w.Keys.Store(ctx, o, "acme", "sk-first-0001", false); return err }(),
		func() error { _, err := w.Keys.Remove(ctx, o, "../openai"); return err }(),
	} {
		if !errors.Is(err, apikey.ErrUnknownProvider) {
			t.Errorf("got %v, want error %v", err, apikey.ErrUnknownProvider)
		}
	}
	if w.Last(t) != head {
		t.Errorf("refusals wrote events: got %v, want %v", w.Last(t), head)
	}
}

func (w *world) environment(t *testing.T, account string, want map[string]string) {
	t.Helper()
	got, err := w.Guests.Keys(t.Context(), account, "01MACHINE")
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("environment %v, %v, not %v", got, err, want)
	}
}

// Each key is sealed for its version, even if many are stored at the same time.
func TestKeysInParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, _ := w.SignUp(t, "ada@example.org")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := w.Keys.Store(t.Context(), o, "openai", "sk-parallel-1", false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.environment(t, o.Account, map[string]string{"OPENAI_API_KEY": "sk-parallel-1"})
}

// Swapped ciphertexts of two versions, providers or accounts must be noticed.
func TestSwappedKeysDoNotOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, _ := w.SignUp(t, "ada@example.org")
	bob, _ := w.SignUp(t, "bob@example.org")
	for _, c := range []struct {
		o        commands.Origin
		provider string
	}{{o, "openai"}, {o, "openai"}, {o, "xai"}, {bob, "openai"}} {
		if _, err := w.Keys.Store(t.Context(), c.o, c.provider, "sk-same-0001", false); err != nil {
			t.Fatal(err)
		}
	}
	sealed := map[string][]byte{}
	for e, err := range w.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev, _ := apikey.Codec.Decode(e.Type, e.Schema, e.Data); ev != nil {
			s := ev.(apikey.Stored)
			sealed[s.Account+s.Provider+string(rune('0'+s.Version))] = s.Key
		}
	}
	label := func(p, v string) string { return "apikey|" + p + "|" + v }
	if _, err := w.Vault.Open(t.Context(), o.Account, label("openai", "2"), sealed[o.Account+"openai2"]); err != nil {
		t.Fatalf("its own: got %v, want no error", err)
	}
	for name, wrong := range map[string][]byte{
		"another version": sealed[o.Account+"openai1"], "another provider": sealed[o.Account+"xai1"], "another account": sealed[bob.Account+"openai1"],
	} {
		swapped := &swapping{w.Recorder, sealed[o.Account+"openai2"], wrong}
		keys := &commands.Keys{Log: commands.Log{Store: swapped, NewID: w.Log.NewID, Now: w.Log.Now}, Vault: w.Vault}
		if env, err := keys.Environment(t.Context(), o.Account); err == nil {
			t.Errorf("%s: got it opened as %v, want an error", name, env)
		}
	}
}

// swapping is a store in which one ciphertext was replaced by another.
type swapping struct {
	eventstore.Store
	from, to []byte
}

func (s *swapping) ReadStream(ctx ctx, id eventstore.StreamID, after int64) seq {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range s.Store.ReadStream(ctx, id, after) {
			e.Data = bytes.ReplaceAll(e.Data, base64JSON(s.from), base64JSON(s.to))
			if !yield(e, err) {
				return
			}
		}
	}
}
