package tunnel

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	hopSkew   = 30 * time.Second // largest difference of replicas' clocks
	maxNonces = 100_000          // remembered at a time; beyond that, hops are refused temporarily
)

// Headers of a hop.
const (
	hopTime   = "Cloudbot-Hop-Time"   // Unix seconds
	hopNonce  = "Cloudbot-Hop-Nonce"  // valid once
	hopMAC    = "Cloudbot-Hop-Mac"    // over method, path, time, nonce and the target's URL
	hopSecret = "Cloudbot-Hop-Secret" // in the answer: the machine's secret, sealed
)

// hopKeys signs and checks hops, and encrypts the secret in the answer.
type hopKeys struct {
	self string
	mac  []byte
	aead cipher.AEAD

	mu    sync.Mutex
	seen  map[string]time.Time // nonces and when they expire
	swept time.Time
}

func newHopKeys(key []byte, self string) (*hopKeys, error) {
	if len(key) < 32 {
		return nil, errors.New("tunnel: HopKey needs at least 32 bytes")
	}
	mac, err := hkdf.Key(sha256.New, key, nil, "cloudbot hop mac", 32)
	if err != nil {
		return nil, err
	}
	seal, err := hkdf.Key(sha256.New, key, nil, "cloudbot hop secret", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(seal)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &hopKeys{self: self, mac: mac, aead: aead, seen: map[string]time.Time{}}, nil
}

func (k *hopKeys) sum(method, path, ts, nonce, target string) string {
	m := hmac.New(sha256.New, k.mac)
	fmt.Fprintf(m, "cloudbot hop 1\n%q\n%q\n%q\n%q\n%q\n", method, path, ts, nonce, target)
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// sign prepares r for the replica at target and returns the nonce.
func (k *hopKeys) sign(r *http.Request, target string, now time.Time) string {
	ts, nonce := strconv.FormatInt(now.Unix(), 10), rand.Text()
	r.Header.Set(hopTime, ts)
	r.Header.Set(hopNonce, nonce)
	r.Header.Set(hopMAC, k.sum(r.Method, r.URL.Path, ts, nonce, target))
	return nonce
}

// check verifies that another replica signed a request for this one. It accepts each request once.
func (k *hopKeys) check(r *http.Request, now time.Time) error {
	ts, nonce := r.Header.Get(hopTime), r.Header.Get(hopNonce)
	at, err := strconv.ParseInt(ts, 10, 64)
	if err != nil || len(nonce) < 16 || len(nonce) > 64 {
		return errors.New("hop without a proof")
	}
	if !hmac.Equal([]byte(k.sum(r.Method, r.URL.Path, ts, nonce, k.self)), []byte(r.Header.Get(hopMAC))) {
		return errors.New("hop with a wrong proof")
	}
	if d := now.Sub(time.Unix(at, 0)); d > hopSkew || d < -hopSkew {
		return errors.New("hop with a time outside the allowed clock difference")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.Sub(k.swept) > hopSkew {
		for n, until := range k.seen {
			if now.After(until) {
				delete(k.seen, n)
			}
		}
		k.swept = now
	}
	if _, again := k.seen[nonce]; again || len(k.seen) >= maxNonces {
		return errors.New("hop seen before")
	}
	k.seen[nonce] = now.Add(2*hopSkew + time.Second)
	return nil
}

// seal encrypts a machine's secret for the answer to the hop with that nonce; unseal decrypts it.
func (k *hopKeys) seal(s Secret, nonce string) (string, error) {
	b, err := json.Marshal([2]string{s.VNCPassword, s.GatewayToken})
	if err != nil {
		return "", err
	}
	iv := make([]byte, k.aead.NonceSize())
	rand.Read(iv)
	return base64.RawURLEncoding.EncodeToString(k.aead.Seal(iv, iv, b, []byte(nonce))), nil
}

func (k *hopKeys) unseal(text, nonce string) (Secret, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < k.aead.NonceSize() {
		return Secret{}, errors.New("hop answered without a secret")
	}
	iv := b[:k.aead.NonceSize()]
	b, err = k.aead.Open(nil, iv, b[len(iv):], []byte(nonce))
	if err != nil {
		return Secret{}, errors.New("hop answered with a wrong secret")
	}
	var two [2]string
	err = json.Unmarshal(b, &two)
	return Secret{VNCPassword: two[0], GatewayToken: two[1]}, err
}
