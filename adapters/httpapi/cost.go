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

// costs returns what instances cost, by their ids; nothing if their usage could not be read.
func (s *Server) costs(ctx context.Context, of seen, l projections.Listed) map[string]*costView {
	list, used, now := l.Instances, l.Usage, of.now
	if len(list) == 0 {
		return nil
	}
	if l.UsageErr != nil {
		s.cfg.Logger.WarnContext(ctx, "costs not shown, reading usage failed", "err", l.UsageErr)
		return nil
	}
	sums := map[string]int64{}
	for _, row := range s.cfg.Prices.Charge(used, of.month.From, now.Add(usage.Minimum), now) {
		sums[row.Instance] += row.Micros
	}
	open := map[string][]usage.Interval{}
	for _, i := range used.Intervals {
		if i.End == usage.Open {
			open[i.Instance] = append(open[i.Instance], i)
		}
	}
	views := make(map[string]*costView, len(list))
	for _, i := range list {
		v := s.cost(i, open[i.ID], now)
		sum := sums[i.ID]
		v.MonthMicros = &sum
		views[i.ID] = v
	}
	return views
}

// cost returns what an instance costs at a time, from its intervals that are open.
func (s *Server) cost(i projections.Instance, open []usage.Interval, now time.Time) *costView {
	v, region, machineType, gib, addressed := &costView{}, i.Region, i.Type, s.cfg.DiskGiB, i.Status != instance.Running || i.Address != ""
	if region == machines.Local {
		machineType = machines.Local
	}
	var run []usage.Interval
	for _, u := range open {
		switch u.Kind {
		case usage.Disk:
			gib = u.GiB
		case usage.Compute:
			region, machineType = u.Region, u.Type
			v.RunSeconds = max(0, int64(now.Sub(u.From)/time.Second))
			run = append(run, u)
		case usage.Address:
			run = append(run, u)
		}
	}
	for _, u := range run {
		v.RunMicros += usage.Micros(s.cfg.Prices.Charge(usage.Usage{Intervals: []usage.Interval{u}}, u.From, now.Add(usage.Minimum), now))
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
