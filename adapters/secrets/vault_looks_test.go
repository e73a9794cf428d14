package secrets

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// gate is a keyStore that counts look-ups of single keys and answers them once it is open.
type gate struct {
	*memoryKeys
	asked atomic.Int64
	open  chan struct{}
}

func (g *gate) get(ctx context.Context, account string) (*row, error) {
	g.asked.Add(1)
	select {
	case <-g.open:
		return g.memoryKeys.get(ctx, account)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Callers that need the same key at the same time share one query. A caller that leaves does not take the others' answer away,
// and a key that is dropped meanwhile is asked for again.
func TestColdKeyIsAskedForOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{memoryKeys: newMemoryKeys(), open: make(chan struct{})}
		sealing := must[*Vault](t)(openVault(t.Context(), g.memoryKeys, ring(t, keyA), nil))
		if err := sealing.NewKey(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		sealed := must[[]byte](t)(sealing.Seal(t.Context(), "ada", "x", []byte("plain")))
		cold := must[*Vault](t)(openVault(t.Context(), g, ring(t, keyA), nil))

		leaving, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := cold.Open(leaving, "ada", "x", sealed); !errors.Is(err, context.Canceled) {
				t.Errorf("the first caller: got %v, want that it left", err)
			}
		})
		synctest.Wait()
		for range 50 {
			wg.Go(func() {
				if plain, err := cold.Open(t.Context(), "ada", "x", sealed); string(plain) != "plain" {
					t.Errorf("got %q, %v, want the text", plain, err)
				}
			})
		}
		synctest.Wait()
		if n := g.asked.Load(); n != 1 {
			t.Errorf("got %d queries for 51 callers, want 1", n)
		}
		leave()
		synctest.Wait()
		if n := g.asked.Load(); n != 2 {
			t.Errorf("got %d queries after the first caller left, want 2", n)
		}
		close(g.open)
		wg.Wait()
		if n := g.asked.Load(); n != 2 {
			t.Errorf("got %d queries in the end, want 2", n)
		}

		g.open = make(chan struct{})
		again := must[*Vault](t)(openVault(t.Context(), g, ring(t, keyA), nil))
		ask := func(want error) {
			wg.Go(func() {
				if _, err := again.Open(t.Context(), "ada", "x", sealed); !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			})
		}
		g.asked.Store(0)
		ask(ErrErased)
		synctest.Wait()
		if err := again.DropKey(t.Context(), "ada"); err != nil {
			t.Fatal(err)
		}
		ask(ErrErased)
		synctest.Wait()
		if n := g.asked.Load(); n != 2 {
			t.Errorf("got %d queries around a drop, want 2: the later caller must not join the earlier query", n)
		}
		close(g.open)
		wg.Wait()
	})
}
