package httpapi

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/projections"
)

// What a list costs in memory is bounded for each desktop: it shows costs of a whole month without a row for each of its days.
func TestListAllocatesLittle(t *testing.T) {
	const desktops = 20
	s := &Server{cfg: Config{Prices: usage.Default(), DiskGiB: 40}}
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	l := projections.Listed{PolicyErr: account.ErrNotFound}
	for n := range desktops {
		id := fmt.Sprintf("desk%d", n)
		l.Instances = append(l.Instances, projections.Instance{ID: id, Name: "Research", Status: instance.Stopped, Phase: instance.PhaseReady,
			Region: "eu-central-1", Type: "t3.large", CreatedAt: now, UpdatedAt: now, PhaseSince: now, Versions: map[string]string{"os": "debian 13"}})
		l.Usage.Intervals = append(l.Usage.Intervals, usage.Interval{Instance: id, N: 1, Kind: usage.Disk, Region: "eu-central-1", GiB: 40, From: now.AddDate(0, -2, 0)})
	}
	of := seen{account: "ada", now: now, month: projections.Period{From: usage.Month(now), To: now}}
	list := func() {
		costs := s.costs(context.Background(), of, l)
		v := listView{Instances: make([]instanceView, desktops)}
		for n := range l.Instances {
			v.Instances[n] = view(l.Instances[n])
			v.Instances[n].Cost = &costs[n]
		}
		if _, err := v.json(); err != nil || *costs[0].MonthMicros == 0 {
			t.Errorf("got a month of %d micro-dollars, %v, want its cost", *costs[0].MonthMicros, err)
		}
	}
	// About 7 for each: texts and numbers that may be null, and prices. A row for each day would be 28 more.
	if got := testing.AllocsPerRun(20, list); got > 15*desktops {
		t.Errorf("got %.0f allocations for %d desktops, want at most %d", got, desktops, 15*desktops)
	}
}
