package secrets

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed" // the list below
	"encoding/base64"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/fair"
)

// Refusals of a new password.
var (
	ErrPasswordTooShort  = &domain.Error{Kind: domain.Invalid, Code: "password_too_short", Msg: "The password must have at least 8 characters."}
	ErrPasswordTooLong   = &domain.Error{Kind: domain.Invalid, Code: "password_too_long", Msg: "The password must have at most 256 characters."}
	ErrPasswordTooCommon = &domain.Error{Kind: domain.Invalid, Code: "password_too_common", Msg: "This password is too common; choose another."}
	ErrPasswordIsEmail   = &domain.Error{Kind: domain.Invalid, Code: "password_contains_email", Msg: "The password must not contain your e-mail address; choose another."}
)

const (
	minPassword = 8   // characters of a new password; bytes of one that is compared, as older passwords were counted
	maxPassword = 256 // characters
	maxBytes    = 4 * maxPassword
	bcryptReads = 72 // bytes: bcrypt ignores the rest, and Go's compare does not report it
)

// longPrefix marks the hash of a password of more bytes than bcrypt reads. For it bcrypt hashes
// base64(HMAC-SHA-256(key, password)) instead. A hash is of one kind, and is compared in that way only.
const longPrefix = "hmac-sha256:"

// common lists, sorted and in lower case, the passwords of 8 characters and more that lead the
// public statistics of leaked ones (as compiled by the zxcvbn project), and a few of our own.
//
//go:embed common.txt
var common string

// PasswordsConfig tunes the hashing.
type PasswordsConfig struct {
	Key        []byte // for passwords of more bytes than bcrypt reads; a server must never change it
	Cost       int    // bcrypt's; 0: 12. Lower values are for tests
	Concurrent int    // hashes at a time; 0: one less than the processors, so that the bridges keep working
}

// Passwords hashes and compares passwords.
type Passwords struct {
	key     []byte
	cost    int
	queue   *fair.Queue // see turns.go
	list    []string    // sorted
	dummy   []byte
	compare func(hash, password []byte) error // bcrypt's; tests count its calls
}

// NewPasswords returns a Passwords.
func NewPasswords(cfg PasswordsConfig) *Passwords {
	p := &Passwords{
		key:     cfg.Key,
		cost:    cmp.Or(cfg.Cost, 12),
		queue:   newQueue(max(cmp.Or(cfg.Concurrent, runtime.GOMAXPROCS(0)-1), 1)),
		list:    strings.Fields(common),
		compare: bcrypt.CompareHashAndPassword,
	}
	// A well-formed hash of no password: comparing with it takes the usual time.
	p.dummy = fmt.Appendf(nil, "$2a$%02d$%s", p.cost, strings.Repeat("abcdefghijklmnopqrstu.", 3)[:53])
	return p
}

// Check refuses an unsuitable new password of the account with an e-mail address.
func (p *Passwords) Check(password, email string) error {
	switch n := utf8.RuneCountInString(password); {
	case n < minPassword:
		return ErrPasswordTooShort
	case n > maxPassword:
		return ErrPasswordTooLong
	}
	lower := strings.ToLower(strings.TrimSpace(password))
	if i := sort.SearchStrings(p.list, lower); i < len(p.list) && p.list[i] == lower {
		return ErrPasswordTooCommon
	}
	if strings.Count(lower, lower[:min(1, len(lower))]) >= len(lower) {
		return ErrPasswordTooCommon // one character repeated
	}
	local, _, _ := strings.Cut(strings.ToLower(email), "@")
	if email != "" && (strings.Contains(lower, strings.ToLower(email)) || lower == local) {
		return ErrPasswordIsEmail
	}
	return nil
}

// seen returns the bytes that bcrypt hashes for a password, and the prefix of that hash.
func (p *Passwords) seen(plain string) (input []byte, mark string) {
	if len(plain) <= bcryptReads {
		return []byte(plain), ""
	}
	return p.digest(plain), longPrefix
}

func (p *Passwords) digest(plain string) []byte {
	mac := hmac.New(sha256.New, p.key)
	mac.Write([]byte(plain))
	return base64.StdEncoding.AppendEncode(nil, mac.Sum(nil))
}

// Hash returns the hash of a password. It refuses lengths that no password has, and waits for its turn until
// ctx ends.
func (p *Passwords) Hash(ctx context.Context, plain string) ([]byte, error) {
	switch {
	case len(plain) < minPassword:
		return nil, ErrPasswordTooShort
	case len(plain) > maxBytes:
		return nil, ErrPasswordTooLong
	}
	if err := p.enter(ctx); err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	defer p.leave()
	input, mark := p.seen(plain)
	hash, err := bcrypt.GenerateFromPassword(input, p.cost)
	if err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	return append([]byte(mark), hash...), nil
}

// Compare reports whether plain is the password of a hash. A nil hash (for a user that does not exist) and a
// password of impossible length take as long as any other and yield false. An error says that ctx ended first,
// or that the hash is malformed.
func (p *Passwords) Compare(ctx context.Context, hash []byte, plain string) (bool, error) {
	if err := p.enter(ctx); err != nil {
		return false, fmt.Errorf("compare password: %w", err)
	}
	defer p.leave()
	fit := hash != nil && len(plain) >= minPassword && len(plain) <= maxBytes
	plain = plain[:min(len(plain), maxBytes)]
	against, long := bytes.CutPrefix(hash, []byte(longPrefix))
	against, original := bytes.CutPrefix(against, []byte(originalPrefix))
	if hash == nil {
		against = p.dummy
	}
	input := []byte(plain)
	switch {
	case original: // it had no limits of length, and bcrypt cut the password
		fit, input = true, input[:min(len(input), bcryptReads)]
	case long:
		input = p.digest(plain)
	case len(plain) > bcryptReads:
		fit, input = false, input[:bcryptReads]
	}
	err := p.compare(against, input)
	switch {
	case err == bcrypt.ErrMismatchedHashAndPassword, hash == nil:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("compare password: %w", err)
	}
	return fit, nil
}
