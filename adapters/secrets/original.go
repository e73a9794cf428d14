package secrets

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
)

// originalPrefix marks a hash that was imported from the original control plane. It hashed the first 72 bytes of a
// password of any length. The owner's next log-in replaces the hash by one of ours.
const originalPrefix = "original:"

// maxOriginalCost bounds the cost of an imported hash: 14 takes four times as long as ours.
const maxOriginalCost = 14

var originalHash = regexp.MustCompile(`^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)

// OriginalHash returns a bcrypt hash of the original control plane as Passwords compares it. The error never contains
// the hash.
func OriginalHash(text string) ([]byte, error) {
	m := originalHash.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("its password hash is not bcrypt's")
	}
	if cost, err := strconv.Atoi(m[1]); err != nil || cost < 4 || cost > maxOriginalCost {
		return nil, fmt.Errorf("its password hash has the cost %s; only 4 to %d are accepted, because a higher one would delay all log-ins", m[1], maxOriginalCost)
	}
	return append([]byte(originalPrefix), text...), nil
}

// Outdated reports whether a hash should be replaced when the password is known.
func (p *Passwords) Outdated(hash []byte) bool { return bytes.HasPrefix(hash, []byte(originalPrefix)) }
