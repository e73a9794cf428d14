package httpapi

import (
	"context"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/projections"
)

// costView is what an instance costs, in micro-dollars.
type costView struct {
	Hourly      *int64 `json:"hourly_micros"`       // running, with a public address; null: not priced
	DiskMonthly *int64 `json:"disk_monthly_micros"` // null: not priced
	RunSeconds  int64  `json:"run_seconds"`         // of the current run
	RunMicros   int64  `json:"run_micros"`
	MonthMicros *int64 `json:"month_micros"`
	Priced      bool   `json:"priced"`
}

// costs returns what a list's instances cost; nothing if their usage could not be read.
func (s *Server) costs(ctx context.Context, of seen, l projections.Listed) []costView {
	used, now := l.Usage, of.now
	if len(l.Instances) == 0 {
		return nil
	}
	if l.UsageErr != nil {
		s.cfg.Logger.WarnContext(ctx, "costs not shown, reading usage failed", "err", l.UsageErr)
		return nil
	}
	totals := s.cfg.Prices.Totals(used, of.month.From, now.Add(usage.Minimum), now)
	intervals := make(map[string][]usage.Interval, len(l.Instances))
	begin := 0
	for n, u := range used.Intervals { // each desktop's are next to each other
		if n+1 == len(used.Intervals) || used.Intervals[n+1].Instance != u.Instance {
			intervals[u.Instance], begin = used.Intervals[begin:n+1], n+1
		}
	}
	views, sums := make([]costView, len(l.Instances)), make([]int64, len(l.Instances))
	for n := range l.Instances {
		i := &l.Instances[n]
		views[n] = s.cost(i, intervals[i.ID], now)
		sums[n], views[n].MonthMicros = totals[i.ID], &sums[n]
	}
	return views
}

// cost returns what an instance costs at a time, from those of its intervals that are open.
func (s *Server) cost(i *projections.Instance, intervals []usage.Interval, now time.Time) (v costView) {
	region, machineType, gib, addressed := i.Region, i.Type, s.cfg.DiskGiB, i.Status != instance.Running || i.Address != ""
	if region == machines.Local {
		machineType = machines.Local
	}
	for n, u := range intervals {
		if u.End != usage.Open {
			continue
		}
		switch u.Kind {
		case usage.Disk:
			gib = u.GiB
		case usage.Compute:
			region, machineType = u.Region, u.Type
			v.RunSeconds = max(0, int64(now.Sub(u.From)/time.Second))
			v.RunMicros += s.runSoFar(intervals[n:n+1], now)
		case usage.Address:
			v.RunMicros += s.runSoFar(intervals[n:n+1], now)
		}
	}
	hourly, priced := s.cfg.Prices.Hourly(region, machineType, now)
	if v.Priced = priced; priced {
		if address, ok := s.cfg.Prices.AddressHourly(region, now); ok && addressed {
			hourly += address
		}
		v.Hourly = &hourly
	}
	if disk, ok := s.cfg.Prices.DiskMonth(region, gib, now); ok {
		v.DiskMonthly = &disk
	}
	return v
}

// runSoFar returns what one interval costs from its beginning.
func (s *Server) runSoFar(one []usage.Interval, now time.Time) int64 {
	return s.cfg.Prices.Totals(usage.Usage{Intervals: one}, one[0].From, now.Add(usage.Minimum), now)[one[0].Instance]
}
