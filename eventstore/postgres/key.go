package postgres

import (
	"crypto/sha256"

	"github.com/oklog/ulid/v2"
)

// indexKey stands for a stream's name or a receipt's key in the log's indexes: 16 bytes of its SHA-256. If
// the name ends in an ULID, the first six bytes are its time instead, so that entries written together lie
// together in the index. That leaves 80 bits to tell names of one millisecond apart: too many for an
// attacker to find a name that collides with another account's.
func indexKey(name string) (k [16]byte) {
	sum := sha256.Sum256([]byte(name))
	copy(k[:], sum[:])
	if n := len(name) - ulid.EncodedSize; n >= 0 {
		if id, err := ulid.ParseStrict(name[n:]); err == nil {
			copy(k[:6], id[:6])
		}
	}
	return k
}
