package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
)

// usageRow is a row of read.usage_desktops, with the intervals and model costs that a batch changed.
type usageRow struct {
	desktop   usage.Desktop
	intervals map[int]usage.Interval
	models    map[time.Time]usage.ModelDay
}

// foldUsage keeps the tables read.usage_*: what each desktop used, as usage.Desktop folds it.
func foldUsage() *Fold {
	return &Fold{Aggregate: instance.Codec.Aggregate(), Load: loadUsage, Evolve: evolveUsage, Save: saveUsage}
}

func loadUsage(ctx context.Context, tx pgx.Tx, ids []string) (map[string]any, error) {
	rows, err := tx.Query(ctx, `SELECT state FROM usage_desktops WHERE instance = ANY ($1)`, ids)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[usage.Desktop])
	byID := make(map[string]any, len(ids))
	for _, d := range list {
		byID[d.Instance] = usageRow{desktop: d}
	}
	return byID, err
}

func evolveUsage(row any, e *Event) (any, error) {
	ev, err := says[instance.Event](e)
	if err != nil {
		return nil, err
	}
	r, exists := row.(usageRow)
	if !exists {
		if !openingEvent(ev) { // the event that opens the stream is parked
			return nil, nil
		}
		r.desktop.Instance = e.Stream.ID
	}
	next, changes := r.desktop.Apply(ev, e.Time)
	if e.mayHoldZero() && strings.ContainsRune(next.Instance+next.Account+next.Region+next.Type+next.Boot, 0) {
		return nil, errNotStorable
	}
	r.desktop = next
	if r.intervals == nil && len(changes.Intervals) > 0 {
		r.intervals = map[int]usage.Interval{}
	}
	if r.models == nil && len(changes.Models) > 0 {
		r.models = map[time.Time]usage.ModelDay{}
	}
	for _, i := range changes.Intervals {
		r.intervals[i.N] = i
	}
	for _, m := range changes.Models {
		m.Micros += r.models[m.Day].Micros
		r.models[m.Day] = m
	}
	return r, nil
}

// saveUsage writes all three tables by one statement: one array per column.
func saveUsage(rows []any) Statement {
	var intervals, models []any
	for _, row := range rows {
		r := row.(usageRow)
		for _, n := range slices.Sorted(maps.Keys(r.intervals)) {
			intervals = append(intervals, r.intervals[n])
		}
		for _, day := range slices.SortedFunc(maps.Keys(r.models), time.Time.Compare) {
			models = append(models, r.models[day])
		}
	}
	type (
		i = usage.Interval
		m = usage.ModelDay
	)
	return Statement{`WITH desktops AS (
			INSERT INTO usage_desktops (instance, state) SELECT * FROM unnest($1::text[], $2::jsonb[])
			ON CONFLICT (instance) DO UPDATE SET state = excluded.state),
		intervals AS (
			INSERT INTO usage_intervals (instance, n, account, kind, region, type, gib, from_at, to_at, ended_by)
			SELECT instance, n, account, kind, region, type, gib, from_at, coalesce(to_at, 'infinity'), ended_by
			FROM unnest($3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::timestamptz[], $11::timestamptz[], $12::text[])
				AS i (instance, n, account, kind, region, type, gib, from_at, to_at, ended_by)
			ON CONFLICT (instance, n) DO UPDATE SET to_at = excluded.to_at, ended_by = excluded.ended_by)
		INSERT INTO usage_models (instance, day, account, type, micros) SELECT * FROM unnest($13::text[], $14::date[], $15::text[], $16::text[], $17::bigint[])
		ON CONFLICT (instance, day) DO UPDATE SET micros = usage_models.micros + excluded.micros, type = excluded.type`,
		[]any{
			column(rows, func(r usageRow) string { return r.desktop.Instance }),
			column(rows, func(r usageRow) string { return desktopJSON(r.desktop) }),
			column(intervals, func(i i) string { return i.Instance }),
			column(intervals, func(i i) int64 { return int64(i.N) }),
			column(intervals, func(i i) string { return i.Account }),
			column(intervals, func(i i) string { return string(i.Kind) }),
			column(intervals, func(i i) string { return i.Region }),
			column(intervals, func(i i) string { return i.Type }),
			column(intervals, func(i i) int64 { return int64(i.GiB) }),
			column(intervals, func(i i) time.Time { return i.From }),
			column(intervals, func(i i) *time.Time { return closing(i) }),
			column(intervals, func(i i) string { return string(i.End) }),
			column(models, func(m m) string { return m.Instance }),
			column(models, func(m m) time.Time { return m.Day }),
			column(models, func(m m) string { return m.Account }),
			column(models, func(m m) string { return m.Type }),
			column(models, func(m m) int64 { return m.Micros }),
		}}
}

func desktopJSON(d usage.Desktop) string {
	text, _ := json.Marshal(d) // texts, numbers and times of years below 10000 always marshal
	return string(text)
}

// closing returns the end of an interval, nil while it is open.
func closing(i usage.Interval) *time.Time {
	if i.End == usage.Open {
		return nil
	}
	return &i.To
}

// Usage returns what an account used in a period, or with "" what all accounts used: every interval that touches the
// period, whole, and the model costs of its UTC days. The rows are by desktop and time. Prices.Charge cuts them to the
// period.
func (r *Reader) Usage(ctx context.Context, account string, from, to time.Time) (usage.Usage, error) {
	if account == "" {
		return r.used(ctx, from, to, nil)
	}
	return r.used(ctx, from, to, []string{account})
}

// Spent returns what accounts used since a time, until now; without accounts, what all used. It is for budgets, which ask
// about all their accounts at once.
func (r *Reader) Spent(ctx context.Context, since time.Time, accounts ...string) (usage.Usage, error) {
	return r.used(ctx, since, time.Time{}, accounts)
}

// used reads the intervals and model costs of a period, zero for no end; accounts are nil for all.
func (r *Reader) used(ctx context.Context, from, to time.Time, accounts []string) (u usage.Usage, err error) {
	intervals, models := askUsage(from, to, accounts)
	rows, err := r.Pool.Query(ctx, intervals.SQL, intervals.Args...)
	if err != nil {
		return u, fmt.Errorf("read usage: %w", err)
	}
	if u.Intervals, err = scanIntervals(rows); err != nil {
		return u, fmt.Errorf("read usage: %w", err)
	}
	rows, err = r.Pool.Query(ctx, models.SQL, models.Args...)
	if err != nil {
		return u, fmt.Errorf("read model costs: %w", err)
	}
	if u.Models, err = pgx.CollectRows(rows, scanModelDay); err != nil {
		return u, fmt.Errorf("read model costs: %w", err)
	}
	return u, nil
}

// askUsage returns the queries of used.
func askUsage(from, to time.Time, accounts []string) (forIntervals, forModels Statement) {
	// The conditions are left out where they do not apply: no index fits "or any".
	intervals, models := `to_at > $1`, `day >= $1::date`
	args := []any{from.UTC().Add(-usage.Minimum)} // a short run counts beyond its end
	days := []any{usage.Day(from)}
	add := func(interval, model string, value, day any) {
		args, days = append(args, value), append(days, day)
		intervals += fmt.Sprintf(interval, len(args))
		models += fmt.Sprintf(model, len(days))
	}
	if !to.IsZero() {
		add(` AND from_at < $%d`, ` AND day < $%d::timestamptz AT TIME ZONE 'UTC'`, to.UTC(), to.UTC())
	}
	switch {
	case len(accounts) == 1: // the planner would plan an array of any length for each call
		add(` AND account = $%d`, ` AND account = $%d`, accounts[0], accounts[0])
	case len(accounts) > 1:
		add(` AND account = ANY ($%d)`, ` AND account = ANY ($%d)`, accounts, accounts)
	}
	return Statement{`SELECT instance, n, account, kind, region, type, gib, from_at, nullif(to_at, 'infinity'), ended_by
			FROM read.usage_intervals WHERE ` + intervals + ` ORDER BY instance, n`, args},
		Statement{`SELECT instance, account, type, day, micros FROM read.usage_models WHERE ` + models + ` ORDER BY instance, day`, days}
}

func scanModelDay(row pgx.CollectableRow) (m usage.ModelDay, err error) {
	err = row.Scan(&m.Instance, &m.Account, &m.Type, &m.Day, &m.Micros)
	return m, err
}

// scanIntervals reads the intervals of used, whose rows share most of their words.
func scanIntervals(rows pgx.Rows) (list []usage.Interval, err error) {
	defer rows.Close()
	var (
		id, account, kind, region, machineType, end pgtype.DriverBytes
		from, to                                    pgtype.Timestamptz
		n, gib                                      int
		shared                                      = words{}
		dest                                        = []any{&id, &n, &account, &kind, &region, &machineType, &gib, &from, &to, &end}
	)
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		if list == nil {
			list = make([]usage.Interval, 0, 2*usualPage)
		}
		list = append(list, usage.Interval{
			Instance: shared.text(id), Account: shared.text(account), N: n, Kind: usage.Kind(shared.text(kind)), Region: shared.text(region),
			Type: shared.text(machineType), GiB: gib, From: from.Time.UTC(), To: to.Time.UTC(), End: usage.End(shared.text(end)),
		})
	}
	return list, rows.Err()
}
