package retry

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := Sleep(t.Context(), time.Minute); err != nil || time.Since(start) != time.Minute {
			t.Errorf("got %v after %v, want nil after 1m", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if err := Sleep(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want the deadline's error after 1s", err, time.Since(start))
		}
		if err := Sleep(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline's error from a context that has ended", err)
		}
	})
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		b    Backoff
		want []time.Duration
	}{
		{"grows up to its maximum", Backoff{First: 100, Max: 350}, []time.Duration{100, 200, 350, 350}},
		{"without a maximum stays", Backoff{First: 100}, []time.Duration{100, 100, 100}},
		{"a maximum below the first counts as the first", Backoff{First: 100, Max: 10}, []time.Duration{100, 100}},
	} {
		var got []time.Duration
		for range c.want {
			got = append(got, c.b.Next())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		c.b.Reset()
		if got := c.b.Next(); got != c.want[0] {
			t.Errorf("%s: got %v after a reset, want %v", c.name, got, c.want[0])
		}
	}
	b := Backoff{First: time.Second, Max: time.Minute, Jitter: true}
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		if got := b.Next(); got < want/2 || got >= want {
			t.Errorf("wait %d with jitter: got %v, want between %v and %v", i+1, got, want/2, want)
		}
	}
}
