// Package secrets contains all handling of secrets: the vault, which encrypts personal data under one key for
// each account; passwords; tokens; and the secrets of the installation.
//
// The one thing to know: there are two kinds of keys. Key-encryption keys come from ENCRYPTION_KEY and are
// rotated. They wrap the data keys in the database; deleting an account's data key erases the person.
package secrets

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const keyBytes = 32

// errSealed says that a ciphertext cannot be opened: it is damaged, was sealed for another place, or is not ours.
var errSealed = errors.New("sealed data does not open")

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// derive returns a key for one purpose, so that no key serves two.
func derive(master []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, master, nil, "cloudbot "+purpose, keyBytes)
	if err != nil {
		panic(fmt.Sprintf("derive a key: %v", err)) // a constant length that HKDF allows
	}
	return key
}

// parts encodes strings so that no two lists have the same encoding.
func parts(all ...string) []byte {
	var b []byte
	for _, s := range all {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

func newKey() []byte { return random(keyBytes) }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
