package commands

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Bounds of an API key, in bytes.
const (
	MinAPIKey = 8
	MaxAPIKey = 512
)

// ErrAPIKey refuses a text that cannot be a key.
var ErrAPIKey = &domain.Error{Kind: domain.Invalid, Code: "invalid_api_key",
	Msg: fmt.Sprintf("An API key has %d to %d visible ASCII characters and no spaces.", MinAPIKey, MaxAPIKey)}

// Keys are the users' commands about their LLM API keys.
type Keys struct {
	Log
	Vault Vault
}

// StoredKey is the answer of Store. It never contains the key.
type StoredKey struct {
	Provider  string    `json:"provider"`
	Last4     string    `json:"last4"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Store sets or replaces the key of a provider; with replace it refuses to set a first one.
func (c *Keys) Store(ctx context.Context, o Origin, provider, key string, replace bool) (Outcome[StoredKey], error) {
	found, err := apikey.Named(provider)
	if err != nil {
		return Outcome[StoredKey]{}, err
	}
	if key, err = checkKey(key); err != nil {
		return Outcome[StoredKey]{}, err
	}
	answer := StoredKey{Provider: found.ID, Last4: last4(key), UpdatedAt: c.Now()}
	return once(ctx, c.Log, o, []any{"store key", found.ID, key, replace}, func(u *eventstore.Unit) (StoredKey, error) {
		return answer, storeKey(ctx, u, c.Vault, o.Account, found.ID, key, replace)
	})
}

// storeKey emits the event of a checked key. With replace it refuses to store a first one.
func storeKey(ctx context.Context, u *eventstore.Unit, vault Vault, account, provider, key string, replace bool) error {
	s, err := apikeys.Load(ctx, u, keyStream(account, provider))
	if err != nil {
		return err
	}
	return storeLoadedKey(ctx, u, vault, account, provider, key, s, replace)
}

// storeLoadedKey is storeKey for a stream that the unit has loaded.
func storeLoadedKey(ctx context.Context, u *eventstore.Unit, vault Vault, account, provider, key string, s apikey.State, replace bool) error {
	sealed, err := vault.Seal(ctx, account, keyLabel(provider, s.Version+1), []byte(key))
	if err != nil {
		return fmt.Errorf("seal key: %w", err)
	}
	_, err = apikeys.Execute(ctx, u, keyStream(account, provider), apikey.Store{
		Account: account, Provider: provider, Version: s.Version + 1, Key: sealed, Last4: last4(key), MustExist: replace,
	})
	return err
}

// checkKey returns a key without the spaces around it, or ErrAPIKey.
func checkKey(key string) (string, error) {
	key = strings.TrimSpace(key)
	if len(key) < MinAPIKey || len(key) > MaxAPIKey || strings.IndexFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return "", ErrAPIKey
	}
	return key, nil
}

func last4(key string) string { return key[len(key)-4:] }

// checkKeys returns checked keys by provider id. A refusal names the entry of the request in its field.
func checkKeys(given map[string]string) (map[string]string, error) {
	keys := make(map[string]string, len(given))
	for name, key := range given {
		entry := "api_keys." + clip(name, 40)
		p, err := apikey.Named(name)
		if err != nil {
			return nil, &domain.Error{Kind: domain.Invalid, Code: apikey.ErrUnknownProvider.Code, Field: entry,
				Msg: fmt.Sprintf("There is no provider %q; GET /api/user/api-keys lists them.", clip(name, 40))}
		}
		if _, twice := keys[p.ID]; twice {
			return nil, &domain.Error{Kind: domain.Invalid, Code: "duplicate_provider", Field: entry,
				Msg: fmt.Sprintf("api_keys has more than one key for %s; send only one.", p.ID)}
		}
		if keys[p.ID], err = checkKey(key); err != nil {
			return nil, &domain.Error{Kind: domain.Invalid, Code: ErrAPIKey.Code, Msg: ErrAPIKey.Msg, Field: entry}
		}
	}
	return keys, nil
}

// Remove removes the key of a provider.
func (c *Keys) Remove(ctx context.Context, o Origin, provider string) (Outcome[struct{}], error) {
	found, err := apikey.Named(provider)
	if err != nil {
		return Outcome[struct{}]{}, err
	}
	return once(ctx, c.Log, o, []string{"remove key", found.ID}, func(u *eventstore.Unit) (struct{}, error) {
		_, err := apikeys.Execute(ctx, u, keyStream(o.Account, found.ID), apikey.Remove{Account: o.Account, Provider: found.ID})
		return struct{}{}, err
	})
}

// Environment returns the account's keys in plain text, by the agent's environment variable. They are only for the
// account's own machines.
func (c *Keys) Environment(ctx context.Context, account string) (map[string]string, error) {
	env := map[string]string{}
	for _, p := range apikey.Providers {
		s, err := apikeys.Fold(ctx, c.Log.Store, keyStream(account, p.ID))
		if err != nil {
			return nil, err
		}
		if s.Key == nil {
			continue
		}
		plain, err := c.Vault.Open(ctx, account, keyLabel(p.ID, s.Version), s.Key)
		if err != nil {
			return nil, fmt.Errorf("open key of %s: %w", p.ID, err)
		}
		env[p.Env] = string(plain)
	}
	return env, nil
}

func keyStream(account, provider string) string { return account + "-" + provider }

func keyLabel(provider string, version int) string {
	return "apikey|" + provider + "|" + strconv.Itoa(version)
}
