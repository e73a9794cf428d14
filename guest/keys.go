package guest

import (
	"maps"
	"slices"
	"sync"
)

// keyring holds the API keys in memory.
type keyring struct {
	redact  *Redactor
	mu      sync.Mutex
	env     map[string]string
	changed chan struct{}
	arrived chan struct{} // closed once the control plane has sent its keys, even if there are none
}

func newKeyring(r *Redactor) *keyring {
	return &keyring{redact: r, changed: make(chan struct{}), arrived: make(chan struct{})}
}

// Env returns the current keys and a channel closed at their next change.
func (k *keyring) Env() (map[string]string, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.env), k.changed
}

// set replaces all keys; it omits those whose name is not an environment name of a key.
func (k *keyring) set(env map[string]string) {
	clean := map[string]string{}
	for name, key := range env {
		if keyName(name) && key != "" {
			clean[name] = key
		}
	}
	k.redact.Know("keys", slices.Collect(maps.Values(clean))...)
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.arrived:
	default:
		close(k.arrived)
	}
	if maps.Equal(k.env, clean) {
		return
	}
	k.env = clean
	close(k.changed)
	k.changed = make(chan struct{})
}

// keyName accepts SOMETHING_API_KEY, and no name that changes how programs run, such as PATH.
func keyName(n string) bool {
	const suffix = "_API_KEY"
	if len(n) <= len(suffix) || len(n) > 64 || n[len(n)-len(suffix):] != suffix {
		return false
	}
	for _, c := range n {
		if c != '_' && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
