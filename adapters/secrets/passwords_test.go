package secrets

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func cheap() *Passwords { return NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost}) }

func TestPasswordRules(t *testing.T) {
	t.Parallel()
	p := cheap()
	for _, c := range []struct {
		password string
		want     error
	}{
		{"", ErrPasswordTooShort},
		{"1234567", ErrPasswordTooShort},
		{"kT9#vq2x", nil},
		{"all lower case and spaces", nil}, // no rules of composition
		{"ÄÖÜß", ErrPasswordTooShort},      // eight bytes, four characters
		{"ÄÖÜßäöüé", nil},
		{strings.Repeat("ab", 36) + "c", nil}, // beyond what bcrypt reads
		{strings.Repeat("aä", 128), nil},
		{strings.Repeat("aä", 128) + "b", ErrPasswordTooLong},
		{"Ada@Example.org", ErrPasswordIsEmail},
		{"my ada@example.ORG 1", ErrPasswordIsEmail},
		{"ada.lovelace", nil},
		{"password", ErrPasswordTooCommon},
		{"PassWord1", ErrPasswordTooCommon},
		{" iloveyou ", ErrPasswordTooCommon},
		{"12345678", ErrPasswordTooCommon},
		{"zzzzzzzzzzzz", ErrPasswordTooCommon},
		{"cloudbot123", ErrPasswordTooCommon},
	} {
		if err := p.Check(c.password, "ada@example.org"); !errors.Is(err, c.want) {
			t.Errorf("%q: got %v, want error %v", c.password, err, c.want)
		}
	}
	if err := p.Check("ada.lovelace", "ada.lovelace@example.org"); err != ErrPasswordIsEmail {
		t.Error("the address without its host:", err)
	}
	if !slices.IsSorted(p.list) || len(p.list) < 3000 || strings.ToLower(common) != common {
		t.Errorf("the list: %d words, sorted %v, want slices.IsSorted(p.list) true, len(p.list) at least 3000 and strings.ToLower(common) %v", len(p.list), slices.IsSorted(p.list), common)
	}
}

func TestHashAndCompare(t *testing.T) {
	t.Parallel()
	p := cheap()
	full := strings.Repeat("x", 71) + "y"
	hash := must[[]byte](t)(p.Hash(t.Context(), full))
	for _, c := range []struct {
		name  string
		hash  []byte
		plain string
		want  bool
	}{
		{"right", hash, full, true},
		{"wrong", hash, strings.Repeat("x", 72), false},
		{"right with junk behind 72 bytes", hash, full + "junk", false},
		{"empty", hash, "", false},
		{"no such user", nil, full, false},
		{"no such user, empty", nil, "", false},
	} {
		if got, err := p.Compare(t.Context(), c.hash, c.plain); err != nil || got != c.want {
			t.Errorf("%s: got %v, %v, want no error and %v", c.name, got, err, c.want)
		}
	}
	// A short password whose hash exists anyway does not log in.
	short := must[[]byte](t)(bcrypt.GenerateFromPassword([]byte("short"), bcrypt.MinCost))
	if got, err := p.Compare(t.Context(), short, "short"); err != nil || got {
		t.Errorf("short: got %v, %v, want no error and got false", got, err)
	}
	if _, err := p.Compare(t.Context(), []byte("no hash"), full); err == nil {
		t.Error("got no error for a malformed hash, want one")
	}
	for _, plain := range []string{"short", strings.Repeat("x", maxBytes+1)} {
		if _, err := p.Hash(t.Context(), plain); err == nil {
			t.Errorf("%d bytes are hashed, want an error", len(plain))
		}
	}
}

// The bytes of a long password that bcrypt would ignore count as well, and its hash names its kind.
func TestLongPasswords(t *testing.T) {
	t.Parallel()
	key := []byte("a key that all replicas have")
	p := NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost, Key: key})
	long := strings.Repeat("x", bcryptReads) + "y"
	hash := must[[]byte](t)(p.Hash(t.Context(), long))
	digest := string(p.digest(long))
	short := must[[]byte](t)(p.Hash(t.Context(), long[:bcryptReads]))
	if !bytes.HasPrefix(hash, []byte("hmac-sha256:$2a$")) || !bytes.HasPrefix(short, []byte("$2a$")) || len(digest) > bcryptReads {
		t.Fatalf("%s, %s, a digest of %d bytes, want bytes.HasPrefix(hash, []byte(\"hmac-sha256:$2a$\")) true, bytes.HasPrefix(short, []byte(\"$2a$\")) true and len(digest) at most %v", hash, short, len(digest), bcryptReads)
	}
	unmarked := bytes.TrimPrefix(hash, []byte(longPrefix))
	marked := append([]byte(longPrefix), short...)
	compared := 0
	compare := p.compare
	p.compare = func(hash, password []byte) error {
		compared++
		return compare(hash, password)
	}
	for _, c := range []struct {
		name  string
		p     *Passwords
		hash  []byte
		plain string
		want  bool
	}{
		{"right", p, hash, long, true},
		{"longest", p, must[[]byte](t)(p.Hash(t.Context(), strings.Repeat("😀", maxPassword))), strings.Repeat("😀", maxPassword), true},
		{"another end", p, hash, long[:bcryptReads] + "z", false},
		{"without its end", p, hash, long[:bcryptReads], false},
		{"with junk behind it", p, hash, long + "junk", false},
		{"what bcrypt saw, for the password", p, hash, digest, false},
		{"what bcrypt saw, against a hash without its mark", p, unmarked, long, false},
		{"a short one with the mark", p, marked, long[:bcryptReads], false},
		{"a short one with junk behind it", p, short, long, false},
		{"under another key", NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost, Key: []byte("another")}), hash, long, false},
	} {
		compared = 0
		if got, err := c.p.Compare(t.Context(), c.hash, c.plain); got != c.want || err != nil || compared > 1 {
			t.Errorf("%s: %v, %v, %d comparisons, want got %v, no error and compared at most 1", c.name, got, err, compared, c.want)
		}
	}
}

// Comparing for an unknown user must cost as much as with a real hash.
func TestUnknownUserTakesAsLong(t *testing.T) {
	t.Parallel()
	p := NewPasswords(PasswordsConfig{Cost: 8})
	if cost := must[int](t)(bcrypt.Cost(p.dummy)); cost != 8 {
		t.Fatalf("cost %d, want 8", cost)
	}
	if err := bcrypt.CompareHashAndPassword(p.dummy, []byte("whatever it is")); err != bcrypt.ErrMismatchedHashAndPassword {
		t.Fatalf("the stand-in is not compared with at all: got %v, want %v", err, bcrypt.ErrMismatchedHashAndPassword)
	}
	hash := must[[]byte](t)(p.Hash(t.Context(), "the right one"))
	// bcrypt takes as long as its cost says, whatever it compares: one comparison of the same cost is the same time.
	var costs []int
	compare := p.compare
	p.compare = func(hash, password []byte) error {
		costs = append(costs, must[int](t)(bcrypt.Cost(hash)))
		return compare(hash, password)
	}
	for name, c := range map[string]struct {
		hash  []byte
		plain string
	}{
		"a wrong password": {hash, "the wrong one"}, "no such user": {nil, "the wrong one"}, "too long": {hash, strings.Repeat("x", 200)},
		"far too long": {nil, strings.Repeat("x", 2000)}, "empty": {nil, ""}, "too short": {hash, "x"},
	} {
		costs = nil
		if ok, err := p.Compare(t.Context(), c.hash, c.plain); ok || err != nil || len(costs) != 1 || costs[0] != 8 {
			t.Errorf("%s: %v %v, comparisons of cost %v, want ok false, no error, len(costs) 1 and costs[0] 8", name, ok, err, costs)
		}
	}
}

func TestHashesAreCapped(t *testing.T) {
	t.Parallel()
	p := NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost, Concurrent: 2})
	for range 2 {
		if err := p.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Hash(ctx, "a fine password"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hash: got %v, want error %v", err, context.DeadlineExceeded)
	}
	if _, err := p.Compare(ctx, nil, "a fine password"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("compare: got %v, want error %v", err, context.DeadlineExceeded)
	}
	p.leave()
	if _, err := p.Hash(t.Context(), "a fine password"); err != nil {
		t.Fatal(err)
	}
	if d := NewPasswords(PasswordsConfig{}); d.cost < 12 || d.enter(t.Context()) != nil {
		t.Errorf("by default cost %d, and no turn, want d.cost at least 12 and d.enter(t.Context()) nil", d.cost)
	}
}
