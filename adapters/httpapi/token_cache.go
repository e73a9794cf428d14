package httpapi

import (
	"crypto/sha256"
	"sync"

	"github.com/cloudbot-ai/control-plane/internal/access"
)

// maxTokens bounds the tokens in each of the two generations, to about 2 MB.
const maxTokens = 8192

// tokenCache remembers the claims of access tokens whose signature was verified, by the tokens' hashes. It says nothing about
// whether a token is still valid: its expiry, its session and its account are checked for each request. The zero value is ready
// to use.
type tokenCache struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]access.Claims // a used token moves to young
}

// parse returns the claims of a token that parse accepts, or accepted before.
func (k *tokenCache) parse(token string, parse func(string) (access.Claims, error)) (access.Claims, error) {
	hash := sha256.Sum256([]byte(token))
	k.mu.Lock()
	who, known := k.young[hash]
	if !known {
		if who, known = k.old[hash]; known {
			k.add(hash, who)
		}
	}
	k.mu.Unlock()
	if known {
		return who, nil
	}
	who, err := parse(token)
	if err != nil {
		return who, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.add(hash, who)
	return who, nil
}

// add adds a token. The caller holds mu.
func (k *tokenCache) add(hash [sha256.Size]byte, who access.Claims) {
	if len(k.young) >= maxTokens {
		k.old, k.young = k.young, nil
	}
	if k.young == nil {
		k.young = map[[sha256.Size]byte]access.Claims{}
	}
	k.young[hash] = who
}
