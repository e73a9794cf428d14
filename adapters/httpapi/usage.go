package httpapi

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// firstYear is the year of the earliest month that can be asked for.
const firstYear = 2020

var monthForm = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])$`)

// monthOf returns the first midnight of the month that a request asks for, or of the current one.
func (s *Server) monthOf(c echo.Context) (time.Time, error) {
	now, text := usage.Month(s.cfg.Now()), c.QueryParam("month")
	if text == "" {
		return now, nil
	}
	month, err := time.Parse("2006-01", text)
	if err != nil || !monthForm.MatchString(text) || month.Year() < firstYear || month.After(now) {
		return month, &refusal{status: http.StatusUnprocessableEntity, code: "invalid_month", field: "month",
			detail: "The month must be as in 2026-11, not before 2020-01 and not in the future."}
	}
	return month, nil
}

type usageView struct {
	Month         string           `json:"month"`
	Currency      string           `json:"currency"`
	Source        string           `json:"source"`
	Date          string           `json:"date"`
	CompleteUntil time.Time        `json:"complete_until"`
	Total         int64            `json:"total_micros"`
	Estimated     int64            `json:"estimated_micros"`
	ByKind        map[string]int64 `json:"by_kind"`
	Days          []string         `json:"days"`
	Desktops      []desktopUsage   `json:"desktops"`
	Excluded      []string         `json:"excluded"`
}

type desktopUsage struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Status     instance.Status `json:"status"`
	Type       string          `json:"instance_type"`
	Total      int64           `json:"total_micros"`
	RunSeconds int64           `json:"run_seconds"`
	Days       []dayUsage      `json:"days"`
	Priced     bool            `json:"priced"`
	Seen       int64           `json:"seen_seconds"`
}

type dayUsage struct {
	Day        string `json:"day"`
	RunSeconds int64  `json:"run_seconds"`
	Compute    int64  `json:"compute_micros"`
	Disk       int64  `json:"disk_micros"`
	Address    int64  `json:"address_micros"`
	Model      int64  `json:"model_micros"`

	machineType string
}

func (d dayUsage) total() int64 { return d.Compute + d.Disk + d.Address + d.Model }

// usage returns what the account's instances cost in a month.
func (s *Server) usage(c echo.Context, who access.Claims) error {
	view, err := s.usageOf(c, who)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, view)
}

func (s *Server) usageOf(c echo.Context, who access.Claims) (usageView, error) {
	month, err := s.monthOf(c)
	if err != nil {
		return usageView{}, err
	}
	if err := s.await(c); err != nil {
		return usageView{}, err
	}
	ctx, now, end := c.Request().Context(), s.cfg.Now(), month.AddDate(0, 1, 0)
	used, err := s.cfg.Queries.Usage(ctx, who.Account, month, end)
	if err != nil {
		return usageView{}, err
	}
	v := usageView{
		Month: month.Format("2006-01"), Currency: currency, Source: s.cfg.Prices.Source, Date: s.cfg.Prices.Date, CompleteUntil: now.UTC(),
		ByKind: map[string]int64{}, Days: []string{}, Excluded: slices.Clone(excluded),
	}
	if now.After(end) {
		v.CompleteUntil = end
	}
	for day := month; day.Before(v.CompleteUntil); day = day.AddDate(0, 0, 1) {
		v.Days = append(v.Days, day.Format(time.DateOnly))
	}
	for _, kind := range usage.Kinds {
		v.ByKind[string(kind)] = 0
	}
	rows := s.cfg.Prices.Charge(used, month, end, now)
	for _, row := range rows {
		v.Total += row.Micros
		v.ByKind[string(row.Kind)] += row.Micros
	}
	v.Estimated = v.ByKind[string(usage.Model)]
	v.Desktops, err = s.byDesktop(ctx, who.Account, rows)
	if slices.ContainsFunc(v.Desktops, func(d desktopUsage) bool { return !d.Priced }) {
		v.Excluded = append(v.Excluded, "Some desktops have a type without a price. Their time is counted, but not what it costs.")
	}
	return v, err
}

// byDesktop returns rows by instance, the most expensive first.
func (s *Server) byDesktop(ctx context.Context, account string, rows []usage.Row) ([]desktopUsage, error) {
	byID := map[string]*desktopUsage{}
	for _, row := range rows {
		d := byID[row.Instance]
		if d == nil {
			d = &desktopUsage{ID: row.Instance, Days: []dayUsage{}, Priced: true}
			byID[row.Instance] = d
		}
		d.add(row)
	}
	list, err := s.cfg.Queries.InstancesOf(ctx, account, slices.Collect(maps.Keys(byID)))
	if err != nil {
		return nil, err
	}
	for _, i := range list {
		byID[i.ID].Name, byID[i.ID].Status = i.Name, i.Status
	}
	desktops := make([]desktopUsage, 0, len(byID))
	for _, d := range byID {
		if d.Status == "" { // the read model of instances has not caught up, or has set the instance aside
			d.Name, d.Status = d.ID, instance.Launching
		}
		desktops = append(desktops, *d)
	}
	slices.SortFunc(desktops, func(a, b desktopUsage) int { return cmp.Or(cmp.Compare(b.Total, a.Total), strings.Compare(a.ID, b.ID)) })
	return desktops, nil
}

// add adds a row. Rows come by day.
func (d *desktopUsage) add(row usage.Row) {
	day := row.Day.Format(time.DateOnly)
	if n := len(d.Days); n == 0 || d.Days[n-1].Day != day {
		d.Days = append(d.Days, dayUsage{Day: day})
	}
	today := &d.Days[len(d.Days)-1]
	d.Total += row.Micros
	d.Priced = d.Priced && row.Priced
	d.Type, today.machineType = row.Type, row.Type
	switch row.Kind {
	case usage.Compute:
		seconds := int64(row.Time / time.Second)
		today.Compute, today.RunSeconds = row.Micros, seconds
		d.RunSeconds += seconds
		d.Seen += int64(row.Seen / time.Second)
	case usage.Disk:
		today.Disk = row.Micros
	case usage.Address:
		today.Address = row.Micros
	case usage.Model:
		today.Model = row.Micros
	}
}
