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
	if _, err := apikey.Find(provider); err != nil {
		return Outcome[StoredKey]{}, err
	}
	key = strings.TrimSpace(key)
	if len(key) < MinAPIKey || len(key) > MaxAPIKey || strings.IndexFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return Outcome[StoredKey]{}, ErrAPIKey
	}
	id := keyStream(o.Account, provider)
	answer := StoredKey{Provider: provider, Last4: key[len(key)-4:], UpdatedAt: c.Now()}
	return once(ctx, c.Log, o, []any{"store key", provider, key, replace}, func(u *eventstore.Unit) (StoredKey, error) {
		s, err := apikeys.Load(ctx, u, id)
		if err != nil {
			return answer, err
		}
		sealed, err := c.Vault.Seal(ctx, o.Account, keyLabel(provider, s.Version+1), []byte(key))
		if err != nil {
			return answer, fmt.Errorf("seal key: %w", err)
		}
		_, err = apikeys.Execute(ctx, u, id, apikey.Store{
			Account: o.Account, Provider: provider, Version: s.Version + 1,
			Key: sealed, Last4: answer.Last4, MustExist: replace,
		})
		return answer, err
	})
}

// Remove removes the key of a provider.
func (c *Keys) Remove(ctx context.Context, o Origin, provider string) (Outcome[struct{}], error) {
	if _, err := apikey.Find(provider); err != nil {
		return Outcome[struct{}]{}, err
	}
	return once(ctx, c.Log, o, []string{"remove key", provider}, func(u *eventstore.Unit) (struct{}, error) {
		_, err := apikeys.Execute(ctx, u, keyStream(o.Account, provider), apikey.Remove{Account: o.Account, Provider: provider})
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
