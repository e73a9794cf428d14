package httpapi

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/projections"
)

// priceList prices t3.large in the region of fakeCloud: 8.32 cents an hour, and half a cent for its address.
const priceList = `{"source":"a test","date":"2026-11-01","disk_gib":40,"versions":[{"from":"2020-01-01","regions":{
	"test-1":{"hourly_micros":{"t3.large":83200},"disk_gib_month_micros":80000,"address_hourly_micros":5000}}}]}`

// activities are what is known of desktops' use. They can fail, and count how often they were asked.
type activities struct {
	now   func() time.Time
	of    map[string]commands.Activity
	err   error
	asked int
}

func (a *activities) Activity(_ context.Context, id string) (commands.Activity, time.Time, error) {
	a.asked++
	return a.of[id], a.now(), a.err
}

func (a *activities) ActivitiesOf(_ context.Context, account string) (map[string]commands.Activity, time.Time, error) {
	a.asked++
	own := map[string]commands.Activity{}
	for id, known := range a.of {
		if known.Account == account {
			own[id] = known
		}
	}
	return own, a.now(), a.err
}

func (a *activities) Beside(account string) (func(*pgx.Batch), func(context.Context) (map[string]commands.Activity, time.Time, error)) {
	return func(*pgx.Batch) {}, func(ctx context.Context) (map[string]commands.Activity, time.Time, error) {
		return a.ActivitiesOf(ctx, account)
	}
}

// countingQueries counts the lists, and can fail to read usage.
type countingQueries struct {
	Queries
	n   int
	err error
}

func (q *countingQueries) List(ctx context.Context, account string, p projections.Page, used projections.Period, also ...func(*pgx.Batch)) (projections.Listed, error) {
	q.n++
	l, err := q.Queries.List(ctx, account, p, used, also...)
	l.UsageErr = q.err
	return l, err
}
