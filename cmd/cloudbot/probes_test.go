package main

import (
	"testing"
	"time"
)

// Read models that stand still while the log has more are reported; those that have nothing to do, or are slow, are
// not.
func TestReadModelsThatStandStill(t *testing.T) {
	t.Parallel()
	var s standstill
	now := time.Unix(1_700_000_000, 0)
	said := ""
	for _, step := range []struct {
		name     string
		after    time.Duration
		at, head int64
		bad      bool
	}{
		{"nothing to do at first", 0, 0, 0, false},
		{"nothing to do for long", time.Hour, 0, 0, false},
		{"an event has come", time.Second, 0, 1, false},
		{"it is on its way", 29 * time.Second, 0, 1, false},
		{"it does not come", 2 * time.Second, 0, 1, true},
		{"nor do those after it", time.Second, 0, 7, true},
		{"some do", time.Second, 3, 7, false},
		{"slow", 25 * time.Second, 4, 9000, false},
		{"and slower", 25 * time.Second, 5, 9000, false},
		{"it stands", 31 * time.Second, 5, 9001, true},
		{"all is well", time.Second, 9001, 9001, false},
		{"and stays so", time.Hour, 9001, 9001, false},
	} {
		now = now.Add(step.after)
		err := s.look(now, step.at, step.head)
		if (err != nil) != step.bad {
			t.Errorf("%s: got %v, want an error %v", step.name, err, step.bad)
		}
		if err != nil && said != "" && err.Error() != said {
			t.Errorf("%s: got %q, want the same words as before: %q", step.name, err, said)
		}
		if said = ""; err != nil {
			said = err.Error()
		}
	}
}
