package secrets

import (
	"cmp"
	"context"
	_ "embed" // the list below
	"fmt"
	"runtime"
	"sort"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/fair"
)

// Refusals of a new password.
var (
	ErrPasswordTooShort  = &domain.Error{Kind: domain.Invalid, Code: "password_too_short", Msg: "The password must have at least 8 bytes."}
	ErrPasswordTooLong   = &domain.Error{Kind: domain.Invalid, Code: "password_too_long", Msg: "The password must have at most 72 bytes."}
	ErrPasswordTooCommon = &domain.Error{Kind: domain.Invalid, Code: "password_too_common", Msg: "This password is one of those that are tried first; choose another."}
)

const (
	minPassword = 8
	maxPassword = 72 // bcrypt looks no further, and Go's compare does not say so
)

// common lists, sorted and in lower case, the passwords of 8 characters and more that lead the
// public statistics of leaked ones (as compiled by the zxcvbn project), and a few of our own.
//
//go:embed common.txt
var common string

// PasswordsConfig tunes the hashing.
type PasswordsConfig struct {
	Cost       int // bcrypt's; 0: 12. Less is for tests
	Concurrent int // hashes at a time; 0: all processors but one, so that the bridges go on
}

// Passwords hashes and compares passwords.
type Passwords struct {
	cost    int
	queue   *fair.Queue // see turns.go
	list    []string    // sorted
	dummy   []byte
	compare func(hash, password []byte) error // bcrypt's; tests count its calls
}

// NewPasswords makes a Passwords.
func NewPasswords(cfg PasswordsConfig) *Passwords {
	p := &Passwords{
		cost:    cmp.Or(cfg.Cost, 12),
		queue:   newQueue(max(cmp.Or(cfg.Concurrent, runtime.GOMAXPROCS(0)-1), 1)),
		list:    strings.Fields(common),
		compare: bcrypt.CompareHashAndPassword,
	}
	// A hash that is well formed and of nothing: comparing with it takes the usual time.
	p.dummy = fmt.Appendf(nil, "$2a$%02d$%s", p.cost, strings.Repeat("abcdefghijklmnopqrstu.", 3)[:53])
	return p
}

// Check refuses a password that is not fit to be a new one.
func (p *Passwords) Check(password string) error {
	switch {
	case len(password) < minPassword:
		return ErrPasswordTooShort
	case len(password) > maxPassword:
		return ErrPasswordTooLong
	}
	lower := strings.ToLower(strings.TrimSpace(password))
	if i := sort.SearchStrings(p.list, lower); i < len(p.list) && p.list[i] == lower {
		return ErrPasswordTooCommon
	}
	if strings.Count(lower, lower[:min(1, len(lower))]) >= len(lower) {
		return ErrPasswordTooCommon // one character, again and again
	}
	return nil
}

// Hash returns the bcrypt hash of a password. It refuses the lengths that Check refuses, and waits
// for its turn until ctx ends.
func (p *Passwords) Hash(ctx context.Context, plain string) ([]byte, error) {
	switch {
	case len(plain) < minPassword:
		return nil, ErrPasswordTooShort
	case len(plain) > maxPassword:
		return nil, ErrPasswordTooLong
	}
	if err := p.enter(ctx); err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	defer p.leave()
	hash, err := bcrypt.GenerateFromPassword([]byte(plain), p.cost)
	if err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	return hash, nil
}

// Compare tells whether plain is the password of a hash. A nil hash, for a user that is not there,
// and a password of impossible length take as long as any other and are false. An error says that
// ctx ended first, or that the hash is no hash.
func (p *Passwords) Compare(ctx context.Context, hash []byte, plain string) (bool, error) {
	if err := p.enter(ctx); err != nil {
		return false, fmt.Errorf("compare password: %w", err)
	}
	defer p.leave()
	fit := len(plain) >= minPassword && len(plain) <= maxPassword
	if len(plain) > maxPassword {
		plain = plain[:maxPassword]
	}
	against := hash
	if hash == nil {
		against = p.dummy
	}
	err := p.compare(against, []byte(plain))
	switch {
	case err == bcrypt.ErrMismatchedHashAndPassword, hash == nil:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("compare password: %w", err)
	}
	return fit, nil
}
