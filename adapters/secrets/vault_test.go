package secrets

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func ring(t testing.TB, keys ...string) *Keyring {
	t.Helper()
	k, err := NewKeyring(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var (
	keyA = strings.Repeat("a1", 32)
	keyB = strings.Repeat("b2", 32)
)

// vaults lists the two stores of keys; each function opens a vault on one store with a ring.
func vaults(t *testing.T, test func(t *testing.T, open func(*Keyring) (*Vault, error))) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		store := newMemoryKeys()
		test(t, func(k *Keyring) (*Vault, error) { return openVault(t.Context(), store, k, nil) })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		pool, err := pgxpool.New(t.Context(), pgtest.New(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		test(t, func(k *Keyring) (*Vault, error) { return OpenVault(t.Context(), VaultConfig{Pool: pool, Keyring: k}) })
	})
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestSealedDataIsBoundToItsPlace(t *testing.T) {
	t.Parallel()
	vaults(t, func(t *testing.T, open func(*Keyring) (*Vault, error)) {
		v := must[*Vault](t)(open(ring(t, keyA)))
		for _, account := range []string{"a", "b", "ab"} {
			if err := v.NewKey(t.Context(), account); err != nil {
				t.Fatal(err)
			}
		}
		sealed := must[[]byte](t)(v.Seal(t.Context(), "a", "apikey/openai/1", []byte("sk-secret")))
		if bytes.Contains(sealed, []byte("secret")) {
			t.Fatal("in clear")
		}
		if got := must[[]byte](t)(v.Open(t.Context(), "a", "apikey/openai/1", sealed)); string(got) != "sk-secret" {
			t.Fatalf("got %q, want \"sk-secret\"", got)
		}
		for _, c := range []struct{ account, label string }{
			{"b", "apikey/openai/1"}, {"ab", "apikey/openai/1"}, {"a", "apikey/openai/2"}, {"a", "apikey/groq/1"},
			{"a", "email"}, {"a", ""}, {"a", "pikey/openai/1"},
		} {
			if got, err := v.Open(t.Context(), c.account, c.label, sealed); err == nil {
				t.Errorf("opens as %+v: got %q, want an error", c, got)
			}
		}
		for i := range sealed {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1
			if _, err := v.Open(t.Context(), "a", "apikey/openai/1", bad); err == nil {
				t.Errorf("opens with byte %d changed, want an error", i)
			}
			if _, err := v.Open(t.Context(), "a", "apikey/openai/1", sealed[:i]); err == nil {
				t.Errorf("opens cut to %d bytes, want an error", i)
			}
		}
		if bytes.Equal(sealed, must[[]byte](t)(v.Seal(t.Context(), "a", "apikey/openai/1", []byte("sk-secret")))) {
			t.Error("got the same bytes for two seals of a text, want different ones")
		}
	})
}

// After the rows of two accounts are swapped, neither can read the other's data or its own.
func TestSwappedRowsDoNotOpen(t *testing.T) {
	t.Parallel()
	store := newMemoryKeys()
	v := must[*Vault](t)(openVault(t.Context(), store, ring(t, keyA), nil))
	for _, account := range []string{"a", "b"} {
		if err := v.NewKey(t.Context(), account); err != nil {
			t.Fatal(err)
		}
	}
	sealed := must[[]byte](t)(v.Seal(t.Context(), "a", "email", []byte("x")))
	a, b := store.data["a"], store.data["b"]
	a.name, b.name = "b", "a"
	store.data["a"], store.data["b"] = b, a
	fresh := must[*Vault](t)(openVault(t.Context(), store, ring(t, keyA), nil))
	for _, account := range []string{"a", "b"} {
		if _, err := fresh.Open(t.Context(), account, "email", sealed); err == nil {
			t.Errorf("%s reads with the other's key, want an error", account)
		}
		if _, err := fresh.Seal(t.Context(), account, "email", nil); err == nil {
			t.Errorf("%s writes with the other's key, want an error", account)
		}
	}
}

func TestErasure(t *testing.T) {
	t.Parallel()
	vaults(t, func(t *testing.T, open func(*Keyring) (*Vault, error)) {
		v := must[*Vault](t)(open(ring(t, keyA)))
		if _, err := v.Seal(t.Context(), "a", "email", nil); !errors.Is(err, ErrErased) {
			t.Fatalf("sealed without a key: got %v, want error %v", err, ErrErased)
		}
		for range 2 { // the second has no effect
			if err := v.NewKey(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		sealed := must[[]byte](t)(v.Seal(t.Context(), "a", "email", []byte("x")))
		if err := v.NewKey(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		must[[]byte](t)(v.Open(t.Context(), "a", "email", sealed))
		for range 2 {
			if err := v.DropKey(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := v.Open(t.Context(), "a", "email", sealed); !errors.Is(err, ErrErased) {
			t.Fatalf("after the key was dropped: got %v, want error %v", err, ErrErased)
		}
		// A new account of the same name is another person.
		if err := v.NewKey(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Open(t.Context(), "a", "email", sealed); !errors.Is(err, ErrErased) {
			t.Fatalf("with a new key: got %v, want error %v", err, ErrErased)
		}
	})
}

func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	vaults(t, func(t *testing.T, open func(*Keyring) (*Vault, error)) {
		before := must[*Vault](t)(open(ring(t, keyA)))
		sealed := map[string][]byte{}
		for i := range 1100 { // more than two batches
			account := hex.EncodeToString([]byte{byte(i >> 8), byte(i)})
			if err := before.NewKey(t.Context(), account); err != nil {
				t.Fatal(err)
			}
			if i%50 == 0 {
				sealed[account] = must[[]byte](t)(before.Seal(t.Context(), account, "email", []byte(account)))
			}
		}
		blind := before.Blind("email", "x@example.org")
		if _, err := open(ring(t, keyB)); err == nil {
			t.Fatal("opened with a key that wrapped nothing")
		}
		after := must[*Vault](t)(open(ring(t, keyB, keyA)))
		ctx, stop := context.WithCancel(t.Context())
		var load sync.WaitGroup
		load.Go(func() {
			for ctx.Err() == nil {
				for account, s := range sealed {
					after.cache.drop(account) // read from the store each time
					if got, err := after.Open(t.Context(), account, "email", s); err != nil || string(got) != account {
						t.Errorf("during the rotation: got %q, %v, want no error and %v", got, err, account)
						return
					}
				}
			}
		})
		changed := must[int](t)(after.Rewrap(t.Context()))
		stop()
		load.Wait()
		if changed != 1101 {
			t.Fatalf("%d keys rewrapped, want 1100 and the blind key", changed)
		}
		if again := must[int](t)(after.Rewrap(t.Context())); again != 0 {
			t.Fatalf("%d rewrapped again, want 0", again)
		}
		alone := must[*Vault](t)(open(ring(t, keyB)))
		for account, s := range sealed {
			if got := must[[]byte](t)(alone.Open(t.Context(), account, "email", s)); string(got) != account {
				t.Fatalf("got %q, want %v", got, account)
			}
		}
		if alone.Blind("email", "x@example.org") != blind {
			t.Fatal("the rotation changed the blind value of an address")
		}
		// Keys that no key in the ring can unwrap are an error.
		lost := must[*Vault](t)(openVault(t.Context(), newMemoryKeys(), ring(t, keyA), nil))
		lost.keys = ring(t, keyB)
		if _, err := lost.Rewrap(t.Context()); err == nil {
			t.Fatal("a lost key goes unnoticed")
		}
	})
}

func TestBlind(t *testing.T) {
	t.Parallel()
	vaults(t, func(t *testing.T, open func(*Keyring) (*Vault, error)) {
		v := must[*Vault](t)(open(ring(t, keyA)))
		got := v.Blind("email", "x@example.org")
		if len(got) != 32 || strings.Trim(got, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Fatalf("got %q, want 32 letters and digits of base32", got)
		}
		if other := must[*Vault](t)(open(ring(t, keyA))); other.Blind("email", "x@example.org") != got {
			t.Fatal("another replica returns another value")
		}
		for _, c := range [][2]string{{"email", "y@example.org"}, {"throttle", "x@example.org"}, {"emailx", "@example.org"}, {"", "emailx@example.org"}} {
			if v.Blind(c[0], c[1]) == got {
				t.Errorf("%q collides, want v.Blind(c[0], c[1]) other than %v", c, got)
			}
		}
	})
	if one, two := newMemoryVault(), newMemoryVault(); one.Blind("a", "b") == two.Blind("a", "b") {
		t.Error("two installations blind a value alike: the key is not random")
	}
}

func TestBlindKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	vaults(t, func(t *testing.T, open func(*Keyring) (*Vault, error)) {
		k := ring(t, keyA)
		blinds := make([]string, 8)
		var all sync.WaitGroup
		for i := range blinds {
			all.Go(func() {
				v, err := open(k)
				if err != nil {
					t.Error(err)
					return
				}
				blinds[i] = v.Blind("p", "v")
			})
		}
		all.Wait()
		for _, b := range blinds {
			if b != blinds[0] {
				t.Fatal("replicas that start together created several blind keys")
			}
		}
	})
}

func TestKeyCache(t *testing.T) {
	t.Parallel()
	c, now := newKeyCache(), time.Unix(1700000000, 0)
	c.now = func() time.Time { return now }
	c.put("a", &dataKey{}, c.generation())
	if c.get("a") == nil {
		t.Fatal("not kept")
	}
	now = now.Add(cacheFor)
	if c.get("a") != nil {
		t.Fatal("kept for too long")
	}
	c.put("a", &dataKey{}, c.generation())
	now = now.Add(-time.Hour)
	if c.get("a") != nil {
		t.Fatal("kept for an hour after the clock went back")
	}
	// A read that began before a drop must not bring the key back.
	before := c.generation()
	c.drop("a")
	c.put("a", &dataKey{}, before)
	if c.get("a") != nil {
		t.Fatal("a dropped key came back")
	}
	for i := range 3 * cacheSize {
		c.put(hex.EncodeToString([]byte{byte(i >> 8), byte(i)}), &dataKey{}, c.generation())
	}
	if len(c.byName) != cacheSize || c.recent.Len() != cacheSize {
		t.Fatalf("%d, %d kept, want len(c.byName) %v and c.recent.Len() %v", len(c.byName), c.recent.Len(), cacheSize, cacheSize)
	}
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{0xfb, 0xef}, 16) // '-' and '_' or '+' and '/' in base64
	forms := []string{
		hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), base64.StdEncoding.EncodeToString(raw),
		base64.URLEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), " " + base64.RawStdEncoding.EncodeToString(raw) + " ",
	}
	for _, f := range forms {
		if got := ring(t, f).Current(); got != ring(t, forms[0]).Current() {
			t.Errorf("%s is another key, want ring(t, forms[0]).Current()", f)
		}
	}
	short, long := base64.StdEncoding.EncodeToString(raw[:31]), base64.StdEncoding.EncodeToString(append(raw, 1))
	for _, bad := range []string{"", ",", keyA + ",", "," + keyA, "password", short, long, keyA + "," + keyA, strings.Repeat("g", 64), strings.Repeat("k", 32)} {
		_, err := NewKeyring(bad)
		if err == nil {
			t.Errorf("%q is accepted, want an error", bad)
		} else if len(bad) > 7 && strings.Contains(err.Error(), bad) {
			t.Errorf("got %v, want no key in it", err)
		}
	}
	two := ring(t, keyA, keyB)
	if two.Current() != ring(t, keyA).Current() || strings.Contains(keyA, two.Current()) {
		t.Fatal("current key")
	}
}

func FuzzOpen(f *testing.F) {
	v := newMemoryVault()
	if err := v.NewKey(context.Background(), "a"); err != nil {
		f.Fatal(err)
	}
	good, err := v.Seal(context.Background(), "a", "l", []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Add(good[:headerSize])
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if plain, err := v.Open(t.Context(), "a", "l", sealed); err == nil && !bytes.Equal(sealed, good) {
			t.Fatalf("got %q of forged bytes, want an error", plain)
		}
	})
}

// asked counts how often the store was asked for data keys.
type asked struct {
	keyStore
	one, many int
}

func (a *asked) get(ctx context.Context, account string) (*row, error) {
	a.one++
	return a.keyStore.get(ctx, account)
}

func (a *asked) getAll(ctx context.Context, accounts []string) ([]row, error) {
	a.many++
	return a.keyStore.getAll(ctx, accounts)
}

// One query reads the keys of a page, and only the missing ones; an erased or damaged key does not affect the
// others.
func TestPreload(t *testing.T) {
	t.Parallel()
	vaults(t, func(t *testing.T, open func(*Keyring) (*Vault, error)) {
		first := must[*Vault](t)(open(ring(t, keyA)))
		sealed := map[string][]byte{}
		for _, account := range []string{"a", "b", "c"} {
			if err := first.NewKey(t.Context(), account); err != nil {
				t.Fatal(err)
			}
			sealed[account] = must[[]byte](t)(first.Seal(t.Context(), account, "name", []byte("of "+account)))
		}
		v := must[*Vault](t)(open(ring(t, keyA)))
		counted := &asked{keyStore: v.store}
		v.store = counted
		for range 2 {
			if err := v.Preload(t.Context(), "a", "b", "erased", "c"); err != nil {
				t.Fatal(err)
			}
		}
		for account, data := range sealed {
			if got := must[[]byte](t)(v.Open(t.Context(), account, "name", data)); string(got) != "of "+account {
				t.Errorf("%s: got %q, want %v", account, got, "of "+account)
			}
		}
		if counted.many != 2 || counted.one != 0 { // the second time for the erased one alone
			t.Errorf("asked %d times for many and %d times for one, want counted.many 2 and counted.one 0", counted.many, counted.one)
		}
		if _, err := v.Open(t.Context(), "erased", "name", sealed["a"]); !errors.Is(err, ErrErased) {
			t.Errorf("erased: got %v, want error %v", err, ErrErased)
		}
	})
}

// Erased is called for an account whose key was deleted, also on the replica that did not delete it.
func TestErasedIsHeard(t *testing.T) {
	t.Parallel()
	store := newMemoryKeys()
	var here, elsewhere []string
	v := must[*Vault](t)(openVault(t.Context(), store, ring(t, keyA), func(a string) { here = append(here, a) }))
	other := must[*Vault](t)(openVault(t.Context(), store, ring(t, keyA), func(a string) { elsewhere = append(elsewhere, a) }))
	if err := v.NewKey(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := v.DropKey(t.Context(), "a"); err != nil || !slices.Equal(here, []string{"a"}) || elsewhere != nil {
		t.Error(here, elsewhere, err)
	}
	if _, err := other.Seal(t.Context(), "a", "email", nil); !errors.Is(err, ErrErased) || !slices.Equal(elsewhere, []string{"a"}) {
		t.Error(elsewhere, err)
	}
}
