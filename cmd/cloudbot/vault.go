package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudbot-ai/control-plane/adapters/secrets"
)

// keyset is the server's secrets, ready to use.
type keyset struct {
	ring   *secrets.Keyring
	tokens *secrets.Tokens
}

// loadSecrets takes the secrets from the environment. Outside production, missing ones are made once and kept in the
// data folder.
func loadSecrets(cfg config) (keyset, error) {
	access, refresh, encryption := cfg.JWTSecret, cfg.JWTRefreshSecret, cfg.EncryptionKey
	if cfg.production() {
		if err := secrets.CheckProduction(map[string]string{
			"JWT_SECRET_KEY": access, "JWT_REFRESH_SECRET_KEY": refresh, "ENCRYPTION_KEY": encryption,
		}); err != nil {
			return keyset{}, err
		}
		for _, list := range []string{access, refresh, encryption} {
			if cfg.AdminToken != "" && slices.Contains(secrets.SplitKeys(list), cfg.AdminToken) {
				return keyset{}, errors.New("ADMIN_TOKEN is the same as another secret; make one of them with `openssl rand -base64 32`")
			}
		}
	} else {
		made, err := secrets.LoadDev(cfg.DataDir)
		if err != nil {
			return keyset{}, err
		}
		access, refresh = cmp.Or(access, made.JWTSecret), cmp.Or(refresh, made.JWTRefreshSecret)
		encryption = cmp.Or(encryption, made.EncryptionKey)
	}
	ring, err := secrets.NewKeyring(encryption)
	if err != nil {
		return keyset{}, fmt.Errorf("ENCRYPTION_KEY: %w", err)
	}
	tokens, err := secrets.NewTokens(secrets.TokensConfig{AccessKeys: secrets.SplitKeys(access), RefreshKeys: secrets.SplitKeys(refresh)})
	return keyset{ring, tokens}, err
}

// openVault opens the accounts' data keys with the secrets of the environment. erased is called for each account
// whose key was deleted; it may be nil.
func openVault(ctx context.Context, cfg config, pool secrets.DB, erased func(account string)) (keyset, *secrets.Vault, error) {
	keys, err := loadSecrets(cfg)
	if err != nil {
		return keyset{}, nil, err
	}
	vault, err := secrets.OpenVault(ctx, secrets.VaultConfig{Pool: pool, Keyring: keys.ring, Erased: erased})
	return keys, vault, err
}

// sharedKey is a key that all replicas have and that outlives a change of ENCRYPTION_KEY.
func sharedKey(v *secrets.Vault, purpose string) []byte {
	return []byte(v.Blind(purpose, "1") + v.Blind(purpose, "2"))
}

// newPasswords returns the check of passwords, which are hashed the same way on all replicas.
func newPasswords(v *secrets.Vault) *secrets.Passwords {
	return secrets.NewPasswords(secrets.PasswordsConfig{Key: sharedKey(v, "long passwords")})
}
