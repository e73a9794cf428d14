package secrets

import (
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Keyring holds the key-encryption keys. The first one is current; the others only unwrap keys that they
// wrapped earlier.
//
// To rotate with several replicas: add the new key after the old one on all of them, then put it first on
// all, then call Vault.Rewrap, then remove the old one.
type Keyring struct {
	keys []keyEncryptionKey
}

type keyEncryptionKey struct {
	id    string
	wrap  cipher.AEAD
	enrol []byte
}

// NewKeyring reads ENCRYPTION_KEY: keys of 32 random bytes in base64, base64url (a Fernet key is
// one) or hex, separated by commas.
func NewKeyring(spec string) (*Keyring, error) {
	k := &Keyring{}
	for i, text := range strings.Split(spec, ",") {
		master, err := parseKey(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		wrap, err := newGCM(derive(master, "wrap v1"))
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		key := keyEncryptionKey{id: hex.EncodeToString(derive(master, "key id v1")[:8]), wrap: wrap, enrol: derive(master, "enrolment v1")}
		if k.find(key.id) != nil {
			return nil, fmt.Errorf("key %d is listed twice", i+1)
		}
		k.keys = append(k.keys, key)
	}
	return k, nil
}

// Current returns the id of the current key. Ids reveal nothing about keys.
func (k *Keyring) Current() string { return k.keys[0].id }

// Has reports whether the keyring has the key with this id.
func (k *Keyring) Has(id string) bool { return k.find(id) != nil }

// IDs returns the ids of all its keys, the current one first.
func (k *Keyring) IDs() []string { return k.ids() }

func (k *Keyring) find(id string) *keyEncryptionKey {
	for i := range k.keys {
		if k.keys[i].id == id {
			return &k.keys[i]
		}
	}
	return nil
}

func (k *Keyring) ids() []string {
	ids := make([]string, len(k.keys))
	for i, key := range k.keys {
		ids[i] = key.id
	}
	return ids
}

// wrap encrypts a key under the current key-encryption key. place says what the key is for; unwrap needs the
// same place.
func (k *Keyring) wrap(key, place []byte) (by string, wrapped []byte) {
	return k.keys[0].id, k.keys[0].wrap.Seal(nil, nil, key, place)
}

func (k *Keyring) unwrap(by string, wrapped, place []byte) ([]byte, error) {
	kek := k.find(by)
	if kek == nil {
		return nil, fmt.Errorf("key-encryption key %s is not in ENCRYPTION_KEY", by)
	}
	key, err := kek.wrap.Open(nil, nil, wrapped, place)
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("unwrap: %w", errSealed)
	}
	return key, nil
}

var errKeyForm = errors.New("want 32 random bytes in base64 or hex (openssl rand -base64 32)")

func parseKey(text string) ([]byte, error) {
	if b, err := hex.DecodeString(text); err == nil && len(b) == keyBytes {
		return b, nil
	}
	text = strings.TrimRight(text, "=")
	for _, encoding := range []*base64.Encoding{base64.RawURLEncoding, base64.RawStdEncoding} {
		if b, err := encoding.DecodeString(text); err == nil && len(b) == keyBytes {
			return b, nil
		}
	}
	return nil, errKeyForm
}
