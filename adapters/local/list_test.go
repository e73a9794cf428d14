package local

import (
	"slices"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

func TestListNamesTheInstances(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir())
	one, two := mustLaunch(t, c, "01INSTANCE-1"), mustLaunch(t, c, "odd")
	if err := c.Terminate(t.Context(), two); err != nil {
		t.Fatal(err)
	}
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []machines.Tagged{
		{Machine: machines.Machine{ID: one, Seen: instance.SeenRunning}, Instance: "01INSTANCE", Attempt: 1, Token: "01INSTANCE-1"},
		{Machine: machines.Machine{ID: two, Seen: instance.SeenGone}, Token: "odd"},
	}
	slices.SortFunc(want, func(a, b machines.Tagged) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	for i, m := range list {
		if gone := m.Seen == instance.SeenGone; m.Started.IsZero() || gone != m.Ended.After(m.Started) {
			t.Errorf("%s: got it started at %v and ended at %v, want both times, and no end while it runs", m.Seen, m.Started, m.Ended)
		}
		list[i].Started, list[i].Ended = time.Time{}, time.Time{}
	}
	if !slices.Equal(list, want) {
		t.Errorf("got  %+v\nwant %+v", list, want)
	}
}
