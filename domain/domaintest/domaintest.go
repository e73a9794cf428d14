// Package domaintest tests a decider by its events: given these events, when this command comes, then these events
// follow. Nothing is mocked.
package domaintest

import (
	"errors"
	"reflect"
	"testing"
)

// Decider is an aggregate's fold and its decisions.
type Decider[S, E, C any] struct {
	Evolve func(S, E) S
	Decide func(S, C) ([]E, error)
}

// Case is one decision. Without Then and Err, nothing changes.
type Case[E, C any] struct {
	Name  string
	Given []E
	When  C
	Then  []E
	Err   error // compared with errors.Is; ErrAny: any
}

// ErrAny stands for an error that only a caller's mistake causes and that has no sentinel.
var ErrAny = errors.New("any error")

// Run runs the cases, each as a subtest.
func (d Decider[S, E, C]) Run(t *testing.T, cases []Case[E, C]) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			got, err := d.Decide(d.Fold(c.Given...), c.When)
			switch {
			case c.Err == nil && err != nil:
				t.Fatalf("got error %v, want none", err)
			case c.Err == ErrAny && err == nil, c.Err != ErrAny && !errors.Is(err, c.Err):
				t.Fatalf("got error %v, want %v", err, c.Err)
			case err != nil && got != nil:
				t.Fatalf("got %v with a refusal, want no events", got)
			case len(got) != len(c.Then) || len(got) > 0 && !reflect.DeepEqual(got, c.Then):
				t.Fatalf("got  %+v\nwant %+v", got, c.Then)
			}
		})
	}
}

// Fold returns the state after the events.
func (d Decider[S, E, C]) Fold(events ...E) S {
	var s S
	for _, e := range events {
		s = d.Evolve(s, e)
	}
	return s
}
