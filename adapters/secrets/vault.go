package secrets

import (
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain"
)

// ErrErased says that the account's data key was deleted, so data sealed under it can no longer be opened.
var ErrErased = &domain.Error{Kind: domain.NotFound, Code: "erased", Msg: "This account was erased."}

// Vault encrypts (seals) data under one key for each account.
//
// Sealed data is a header (format version, id of the data key), a nonce and AES-256-GCM's output.
// It opens only with the account and label it was sealed for, so swapped rows do not open.
type Vault struct {
	keys   *Keyring
	store  keyStore
	cache  *keyCache
	looks  looks
	erased func(account string)
	blind  []byte
}

const (
	formatV1   = 1
	keyIDSize  = 8
	headerSize = 1 + keyIDSize
	blindName  = "blind"
)

// row is a wrapped key as it is stored.
type row struct {
	name    string // account, or name of a named key
	id      []byte // of a data key
	by      string // the key-encryption key's id
	wrapped []byte
}

// keyStore is where wrapped keys are kept.
type keyStore interface {
	add(ctx context.Context, r row) error                  // no effect if there is one
	get(ctx context.Context, account string) (*row, error) // nil: none
	getAll(ctx context.Context, accounts []string) ([]row, error)
	drop(ctx context.Context, account string) error
	addNamed(ctx context.Context, r row) error
	getNamed(ctx context.Context, name string) (*row, error)
	// rewrap passes some of the data keys and named keys wrapped by one of these through change, stores the
	// results, and returns how many there were.
	rewrap(ctx context.Context, by []string, change func(named bool, r row) (row, error)) (int, error)
	// wrappedByOthers counts the keys that none of these wrapped.
	wrappedByOthers(ctx context.Context, by []string) (int, error)
}

// VaultConfig configures a vault. Pool and Keyring are required.
type VaultConfig struct {
	Pool    DB
	Keyring *Keyring
	// Erased is called with each account whose key was deleted, here or (when the key is next needed) on
	// another replica, so that other copies in memory can be dropped. Nil: no effect.
	Erased func(account string)
}

// OpenVault opens the vault in a migrated database. The first call creates its blind key.
func OpenVault(ctx context.Context, cfg VaultConfig) (*Vault, error) {
	return openVault(ctx, postgresKeys{cfg.Pool}, cfg.Keyring, cfg.Erased)
}

func openVault(ctx context.Context, store keyStore, keys *Keyring, erased func(string)) (*Vault, error) {
	if erased == nil {
		erased = func(string) {}
	}
	v := &Vault{keys: keys, store: store, cache: newKeyCache(), erased: erased}
	by, wrapped := keys.wrap(newKey(), namedPlace(blindName))
	if err := store.addNamed(ctx, row{name: blindName, by: by, wrapped: wrapped}); err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	r, err := store.getNamed(ctx, blindName)
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	if v.blind, err = keys.unwrap(r.by, r.wrapped, namedPlace(blindName)); err != nil {
		return nil, fmt.Errorf("open vault: blind key: %w", err)
	}
	return v, nil
}

// NewKey creates the account's data key, unless it has one.
func (v *Vault) NewKey(ctx context.Context, account string) error {
	id := random(keyIDSize)
	by, wrapped := v.keys.wrap(newKey(), dataPlace(account, id))
	if err := v.store.add(ctx, row{name: account, id: id, by: by, wrapped: wrapped}); err != nil {
		return fmt.Errorf("new data key: %w", err)
	}
	return nil
}

// DropKey permanently deletes the account's data key. Data sealed under it can no longer be opened: here
// immediately, on other replicas within a minute.
func (v *Vault) DropKey(ctx context.Context, account string) error {
	err := v.store.drop(ctx, account)
	v.cache.drop(account) // after the row, so that it is not cached again
	v.erased(account)
	if err != nil {
		return fmt.Errorf("drop data key: %w", err)
	}
	return nil
}

// Seal encrypts plain for an account and a label, which names the data and its version: "email",
// "apikey/openai/3". It returns ErrErased if the account has no data key.
func (v *Vault) Seal(ctx context.Context, account, label string, plain []byte) ([]byte, error) {
	key, err := v.dataKey(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	header := append([]byte{formatV1}, key.id...)
	return key.aead.Seal(header, nil, plain, sealPlace(header, account, label)), nil
}

// Open is the inverse of Seal. It returns ErrErased if the data key was deleted; any other failure means that
// the data is damaged or was sealed for another account or label.
func (v *Vault) Open(ctx context.Context, account, label string, sealed []byte) ([]byte, error) {
	if len(sealed) < headerSize || sealed[0] != formatV1 {
		return nil, fmt.Errorf("open: %w", errSealed)
	}
	key, err := v.dataKey(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	header := sealed[:headerSize]
	plain, err := key.aead.Open(nil, nil, sealed[headerSize:], sealPlace(header, account, label))
	if err == nil {
		return plain, nil
	}
	if string(header[1:]) != string(key.id) {
		return nil, fmt.Errorf("open: another data key: %w", ErrErased)
	}
	return nil, fmt.Errorf("open: %w", errSealed)
}

// Blind returns 32 lower-case letters and digits that stand for a value without revealing it. They are the same
// for the same purpose and value, on every replica and after every rotation.
func (v *Vault) Blind(purpose, value string) string {
	mac := hmac.New(sha256.New, v.blind)
	mac.Write(parts(purpose, value))
	return strings.ToLower(base32.StdEncoding.EncodeToString(mac.Sum(nil)[:20]))
}

// Rewrap wraps all keys under the current key-encryption key and returns how many it changed. It may run while
// the server works, and repeatedly. It fails if a key remains that no key in the ring opens.
func (v *Vault) Rewrap(ctx context.Context) (int, error) {
	total, old := 0, v.keys.ids()[1:]
	for len(old) > 0 {
		n, err := v.store.rewrap(ctx, old, func(named bool, r row) (row, error) {
			place := dataPlace(r.name, r.id)
			if named {
				place = namedPlace(r.name)
			}
			key, err := v.keys.unwrap(r.by, r.wrapped, place)
			if err == nil {
				r.by, r.wrapped = v.keys.wrap(key, place)
			}
			return r, err
		})
		total += n
		if err != nil {
			return total, fmt.Errorf("rewrap: %w", err)
		}
		if n == 0 {
			break
		}
	}
	left, err := v.store.wrappedByOthers(ctx, v.keys.ids()[:1])
	if err != nil {
		return total, fmt.Errorf("rewrap: %w", err)
	}
	if left > 0 {
		return total, fmt.Errorf("rewrap: %d keys are not wrapped by the current one: run it again, and keep the old keys in ENCRYPTION_KEY", left)
	}
	return total, nil
}

type dataKey struct {
	id   []byte
	aead cipher.AEAD
}

// dataKey returns an account's key. Callers that need the same key at the same time share one query.
func (v *Vault) dataKey(ctx context.Context, account string) (*dataKey, error) {
	for {
		if k := v.cache.get(account); k != nil {
			return k, nil
		}
		generation := v.cache.generation()
		l, first := v.looks.join(account, generation)
		if !first {
			select {
			case <-l.done:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			if l.err != nil && l.abandoned { // the first caller left: its query says nothing
				continue
			}
			return l.key, l.err
		}
		func() {
			defer v.looks.leave(account, l) // also after a panic, which is this caller's alone
			l.abandoned, l.err = true, errLookEnded
			l.key, l.err = v.fetch(ctx, account, generation)
			l.abandoned = ctx.Err() != nil
		}()
		return l.key, l.err
	}
}

func (v *Vault) fetch(ctx context.Context, account string, generation uint64) (*dataKey, error) {
	r, err := v.store.get(ctx, account)
	if err != nil {
		return nil, err
	}
	if r == nil {
		v.erased(account)
		return nil, ErrErased
	}
	return v.keep(*r, generation)
}

// Unlock adds the query for an account's data key to a batch, unless the cache has it, so that calls of Open after the batch
// find it there. For an account without a key, or with a damaged one, Open returns the error.
func (v *Vault) Unlock(b *pgx.Batch, account string) {
	if v.cache.get(account) != nil {
		return
	}
	generation := v.cache.generation()
	b.Queue(oneKey, account).QueryRow(func(row pgx.Row) error {
		r, err := scanKey(account, row)
		if err == nil && r != nil {
			_, _ = v.keep(*r, generation)
		}
		return nil
	})
}

// keep unwraps a data key and puts it into the cache.
func (v *Vault) keep(r row, generation uint64) (*dataKey, error) {
	key, err := v.keys.unwrap(r.by, r.wrapped, dataPlace(r.name, r.id))
	if err != nil {
		return nil, fmt.Errorf("data key: %w", err)
	}
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	k := &dataKey{id: r.id, aead: aead}
	v.cache.put(r.name, k, generation)
	return k, nil
}

// Preload reads the data keys of several accounts into the cache with one query, before calls of Open for
// them. For an account without a key, or with a damaged one, Open returns the error. With more accounts than
// the cache has room for, only the last ones benefit.
func (v *Vault) Preload(ctx context.Context, accounts ...string) error {
	var missing []string
	for _, account := range accounts {
		if v.cache.get(account) == nil {
			missing = append(missing, account)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	generation := v.cache.generation()
	rows, err := v.store.getAll(ctx, missing)
	if err != nil {
		return fmt.Errorf("preload data keys: %w", err)
	}
	for _, r := range rows {
		_, _ = v.keep(r, generation) // Open returns the error
	}
	return nil
}

func dataPlace(account string, id []byte) []byte { return parts("data key", account, string(id)) }
func namedPlace(name string) []byte              { return parts("named key", name) }
func sealPlace(header []byte, account, label string) []byte {
	return parts(string(header), account, label)
}
