package httpapi

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// keptLimits is a limiter that never forgets a key, as the shared one does for hours.
type keptLimits struct {
	*localLimiter
	mu   sync.Mutex
	keys map[string]bool
}

func (k *keptLimits) Allow(_ context.Context, key string, limit int, window time.Duration) (time.Duration, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[key] = true
	return k.allow(key, Rate{limit, window}), nil
}

func (k *keptLimits) GiveBack(_ context.Context, key string, _ int, _ time.Duration) { k.giveBack(key) }

func (k *keptLimits) held() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.keys)
}

// TestHostileRefusedTriesLeaveNoKeys keeps trying after a refusal, from other addresses of its network and with
// other e-mail addresses. The bucket in which replicas count is bounded and must not fill up.
func TestHostileRefusedTriesLeaveNoKeys(t *testing.T) {
	t.Parallel()
	const crowd = 200
	addr := func(n int) string { return fmt.Sprintf("2001:db8:1:%x::1", n+1) }
	for name, c := range map[string]struct {
		first, then func(n int) call
	}{
		"a network that is refused": {
			func(n int) call { return from(addr(n), login(fmt.Sprintf("a%d@example.com", n), wrongPassword)) },
			func(n int) call { return from(addr(1000+n), login(fmt.Sprintf("b%d@example.com", n), wrongPassword)) },
		},
		"an address that is refused, with other e-mail addresses": {
			func(n int) call { return from(addr(1), login(fmt.Sprintf("a%d@example.com", n), wrongPassword)) },
			func(n int) call { return from(addr(1), login(fmt.Sprintf("b%d@example.com", n), wrongPassword)) },
		},
		"an account that is refused, from other addresses": {
			func(n int) call { return from(addr(n), login("ada@example.com", wrongPassword)) },
			func(n int) call { return from(addr(1000+n), login("ada@example.com", wrongPassword)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var kept *keptLimits
			f := newFront(t, func(c *Config) {
				behindProxy(c)
				kept = &keptLimits{localLimiter: newLocalLimiter(c.Now), keys: map[string]bool{}}
				c.Limiter = kept
				c.Limits.LoginAddress, c.Limits.LoginAccount = Rate{10, time.Minute}, Rate{4, time.Minute}
			})
			for n := 0; ; n++ {
				if f.do(c.first(n)).status == 429 {
					break
				}
			}
			before := kept.held()
			for n := range crowd {
				f.want(429, c.then(n))
			}
			if more := kept.held() - before; more > 5 {
				t.Errorf("new keys for %d refused tries: got %d, want at most 5", crowd, more)
			}
		})
	}
}
