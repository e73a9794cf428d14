// Package commandstest has the use cases over a log in memory, with small working parts around them.
package commandstest

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// World is the use cases over a log in memory, with small working parts around them.
type World struct {
	*Recorder
	Clock     *Clock
	Vault     *Vault
	Passwords *Passwords
	Tokens    Tokens

	Log       commands.Log
	Accounts  *commands.Accounts
	Instances *commands.Instances
	Keys      *commands.Keys
	Guests    *commands.Guests
}

// NewWorld returns a world in which an account may have limit instances. Its clock stands.
func NewWorld(limit int) *World { return NewWorldOn(memory.New(), limit) }

// NewWorldOn is NewWorld over a store.
func NewWorldOn(store eventstore.Store, limit int) *World {
	w := &World{
		Recorder: &Recorder{Store: store}, Clock: &Clock{}, Vault: &Vault{keys: map[string][]byte{}},
		Passwords: &Passwords{}, Tokens: Tokens{Current: "k1"},
	}
	w.Clock.at.Store(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano())
	w.Log = commands.Log{Store: eventstore.Keeping(w.Recorder, eventstore.NewStates(1<<20)), NewID: NewIDs(), Now: w.Clock.Now, DigestKey: []byte("digest key")}
	w.Accounts = &commands.Accounts{Log: w.Log, Vault: w.Vault, Passwords: w.Passwords, Blind: Blind}
	w.Instances = &commands.Instances{Log: w.Log, Vault: w.Vault, Cloud: offer{}, Limit: limit}
	w.Keys = &commands.Keys{Log: w.Log, Vault: w.Vault}
	w.Guests = &commands.Guests{Log: w.Log, APIKeys: w.Keys, Tokens: w.Tokens}
	return w
}

// Password is that of the accounts that SignUp opens.
const Password = "correct horse"

// SignUp opens an account and returns its origin and login.
func (w *World) SignUp(t testing.TB, email string) (commands.Origin, commands.Login) {
	t.Helper()
	login, err := w.Accounts.SignUp(t.Context(), commands.Origin{ClientAddr: "192.0.2.1"}, email, Password, "", "browser")
	if err != nil {
		t.Fatal(err)
	}
	return commands.Origin{Account: login.Account, Session: login.Session}, login
}

// Last returns the position of the last event.
func (w *World) Last(t testing.TB) int64 {
	t.Helper()
	head, err := w.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// NewIDs returns a source of ids that sort in the order they were made, as ULIDs do.
func NewIDs() func() string {
	var n atomic.Int64
	return func() string { return fmt.Sprintf("01TEST%020d", n.Add(1)) }
}

// Blind is an Accounts.Blind under a fixed key.
func Blind(purpose, value string) string {
	mac := hmac.New(sha256.New, []byte("blinding key"))
	mac.Write([]byte(purpose + "|" + value))
	return hex.EncodeToString(mac.Sum(nil))
}

// offer is a cloud that is asked only for its region and its sizes.
type offer struct{ machines.Cloud }

func (offer) Region() string { return "test" }

func (offer) Types() []machines.MachineType {
	return []machines.MachineType{{ID: "small"}, {ID: "large"}}
}

// Clock stands until it is advanced, or shows the time.
type Clock struct {
	at    atomic.Int64
	shows atomic.Bool
}

// Now returns the clock's time, in UTC.
func (c *Clock) Now() time.Time {
	if c.shows.Load() {
		return time.Now().UTC()
	}
	return time.Unix(0, c.at.Load()).UTC()
}

// Advance moves the clock on, unless it shows the time.
func (c *Clock) Advance(d time.Duration) { c.at.Add(int64(d)) }

// ShowTime makes the clock show the time from now on, which in a bubble of synctest is the bubble's.
func (c *Clock) ShowTime() { c.shows.Store(true) }

// Recorder keeps what was appended, receipts included, and can lose the answer to an append.
type Recorder struct {
	eventstore.Store
	mu      sync.Mutex
	Appends []eventstore.Append
	Lose    func(eventstore.Append) bool // nil: never
	Refuse  atomic.Bool                  // it is unavailable for writing
	Looked  func(eventstore.StreamID)    // called after a stream was read; nil: not called
}

// ReadStream reads a stream and calls Looked.
func (r *Recorder) ReadStream(ctx context.Context, s eventstore.StreamID, after int64) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range r.Store.ReadStream(ctx, s, after) {
			if !yield(e, err) {
				return
			}
		}
		if r.Looked != nil {
			r.Looked(s)
		}
	}
}

// Append appends and keeps what was appended, unless Refuse or Lose say otherwise.
func (r *Recorder) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	if r.Refuse.Load() {
		return eventstore.Result{}, fmt.Errorf("%w: scripted", eventstore.ErrUnavailable)
	}
	res, err := r.Store.Append(ctx, a)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		return res, err
	}
	r.Appends = append(r.Appends, a)
	if r.Lose != nil && r.Lose(a) {
		return eventstore.Result{}, fmt.Errorf("%w: connection cut after COMMIT", eventstore.ErrUnavailable)
	}
	return res, nil
}

// Vault seals with AES-256-GCM under one key per account.
type Vault struct {
	mu   sync.Mutex
	keys map[string][]byte
}

// NewKey makes a key for the account.
func (v *Vault) NewKey(_ context.Context, account string) error {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys[account] = key
	return nil
}

// DropKey forgets the account's key.
func (v *Vault) DropKey(_ context.Context, account string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.keys, account)
	return nil
}

// Count returns how many accounts have a key.
func (v *Vault) Count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.keys)
}

func (v *Vault) aead(account string) (cipher.AEAD, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key, ok := v.keys[account]
	if !ok {
		return nil, errors.New("vault: no key")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal encrypts for an account and a label.
func (v *Vault) Seal(_ context.Context, account, label string, plain []byte) ([]byte, error) {
	aead, err := v.aead(account)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plain, []byte(account+"|"+label)), nil
}

// Open decrypts what Seal returned for the same account and label.
func (v *Vault) Open(_ context.Context, account, label string, sealed []byte) ([]byte, error) {
	aead, err := v.aead(account)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nil, sealed, []byte(account+"|"+label))
}

// ErrWeak refuses a password shorter than eight characters.
var ErrWeak = &domain.Error{Kind: domain.Invalid, Code: "weak_password", Msg: "Too short."}

// Passwords hashes quickly, which only a test may do.
type Passwords struct {
	Compared, Blank atomic.Int64
	Meanwhile       func() // happens while a password is hashed, once; nil: nothing
}

// Check returns ErrWeak for a short password.
func (*Passwords) Check(password, _ string) error {
	if len(password) < 8 {
		return ErrWeak
	}
	return nil
}

// Hash calls Meanwhile, once, and hashes.
func (p *Passwords) Hash(_ context.Context, password string) ([]byte, error) {
	if do := p.Meanwhile; do != nil {
		p.Meanwhile = nil
		do()
	}
	sum := sha256.Sum256([]byte("salt" + password))
	return sum[:], nil
}

// Compare reports whether hash is the password's, and counts.
func (p *Passwords) Compare(ctx context.Context, hash []byte, password string) (bool, error) {
	p.Compared.Add(1)
	if hash == nil {
		p.Blank.Add(1)
	}
	sum, _ := p.Hash(ctx, password)
	return bytes.Equal(bytes.TrimPrefix(hash, outdated), sum), nil
}

// outdated marks a hash that should be replaced.
var outdated = []byte("outdated:")

// OutdatedHash returns a hash of the password that should be replaced.
func (p *Passwords) OutdatedHash(password string) []byte {
	sum, _ := p.Hash(context.Background(), password)
	return append(bytes.Clone(outdated), sum...)
}

// Outdated reports whether OutdatedHash made the hash.
func (*Passwords) Outdated(hash []byte) bool { return bytes.HasPrefix(hash, outdated) }

// Tokens are enrolment tokens under a current key: instance.attempt.mac.
type Tokens struct{ Current string }

// CurrentKey returns the id of the key that new tokens get.
func (k Tokens) CurrentKey() string { return k.Current }

// Token returns the token of an instance's launch attempt.
func (k Tokens) Token(id string, attempt int, keyID string) (string, error) {
	if keyID == "" {
		return "", errors.New("tokens: no key")
	}
	mac := hmac.New(sha256.New, []byte(keyID))
	fmt.Fprintf(mac, "%s.%d", id, attempt)
	return fmt.Sprintf("%s.%d.%x", id, attempt, mac.Sum(nil)), nil
}

// Parse takes a token apart without a check.
func (k Tokens) Parse(token string) (id string, attempt int, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", 0, errors.New("tokens: malformed")
	}
	attempt, err = strconv.Atoi(parts[1])
	return parts[0], attempt, err
}

// Verify reports whether the token was made with the key.
func (k Tokens) Verify(token, keyID string) bool {
	id, attempt, err := k.Parse(token)
	if err != nil {
		return false
	}
	want, err := k.Token(id, attempt, keyID)
	return err == nil && hmac.Equal([]byte(want), []byte(token))
}

// Code returns the code of a refusal, "" for any other error.
func Code(err error) string {
	var refused *domain.Error
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}
