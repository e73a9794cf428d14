package secrets

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/cloudbot-ai/control-plane/fair"
)

// TestHostileHashes lets 150 strangers wait for a hash, and then an account's known device.
func TestHostileHashes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		addr    string
		wait    int
		refusal error
	}{
		"of one /56":   {"2001:db8:1:1%02x::1", 12, ErrTooManyTurns},
		"of one /48":   {"2001:db8:1:%x00::1", 16, ErrTooManyTurns},
		"of one /32":   {"2001:db8:%x::1", 32, ErrTooManyTurns},
		"of the world": {"2001:%x::1", 64, ErrNoTurn},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := NewPasswords(PasswordsConfig{Cost: bcrypt.MinCost, Concurrent: 1})
			turn, over := make(chan string), make(chan struct{})
			p.compare = func(_, password []byte) error {
				select {
				case turn <- string(password):
				case <-over:
				}
				return bcrypt.ErrMismatchedHashAndPassword
			}
			compare := func(v fair.Visitor, password string) error {
				_, err := p.Compare(fair.With(t.Context(), v), nil, password)
				return err
			}
			results := make(chan error, 151)
			var all sync.WaitGroup
			defer all.Wait()
			defer close(over)
			for n := range 150 {
				v := fair.Visitor{Addr: netip.MustParseAddr(fmt.Sprintf(c.addr, n+1))}
				all.Go(func() { results <- compare(v, "a stranger's") })
			}
			for n := range 149 - c.wait {
				select {
				case err := <-results:
					if !errors.Is(err, c.refusal) {
						t.Fatalf("refused with %v, want error %v", err, c.refusal)
					}
				case <-time.After(time.Minute):
					_, strangers, _ := p.queue.Used()
					t.Fatalf("%d are refused, %d wait", n, strangers)
				}
			}
			if working, strangers, known := p.queue.Used(); working != 1 || strangers != c.wait || known != 0 {
				t.Errorf("%d at work, %d and %d wait, want 1, %d, 0", working, strangers, known, c.wait)
			}
			all.Go(func() { results <- compare(fair.Visitor{Known: "ada"}, "ada's") })
			for _, _, known := p.queue.Used(); known == 0; _, _, known = p.queue.Used() {
				<-time.After(time.Millisecond) // until it waits
			}
			if first, second := <-turn, <-turn; first != "a stranger's" || second != "ada's" {
				t.Errorf("turns of %s and %s, want first \"a stranger's\" and second \"ada's\"", first, second)
			}
			for range c.wait {
				<-turn
			}
		})
	}
}
