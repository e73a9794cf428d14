package eventstoretest

import (
	"context"
	"errors"
	"testing"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

func versions(t *testing.T, s eventstore.Store) {
	i := &ids{}
	must(t, s, to(i, "a", 0, 3))
	must(t, s, to(i, "b", 0, 1))
	must(t, s, to(i, "a", 3, 2))
	for id, want := range map[string]int64{"a": 5, "b": 1, "none": 0} {
		if got, err := s.Version(t.Context(), stream(id)); got != want || err != nil {
			t.Errorf("version of %s: %d, %v; want %d", id, got, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Version(ctx, stream("a")); !errors.Is(err, eventstore.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: got %v, want it unavailable and canceled", err)
	}
}

func versionsCross(t *testing.T, a, b eventstore.Store) {
	i := &ids{}
	for n := range int64(3) {
		must(t, a, to(i, "x", 2*n, 1))
		must(t, b, to(i, "x", 2*n+1, 1))
		for _, s := range []eventstore.Store{a, b} {
			if got, err := s.Version(t.Context(), stream("x")); got != 2*n+2 || err != nil {
				t.Fatalf("version %d, %v; want %d", got, err, 2*n+2)
			}
		}
	}
}
