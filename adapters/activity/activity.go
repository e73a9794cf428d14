// Package activity keeps when each desktop was last used, in a table beside the log. Machines report it to Reports, which
// writes a few of the reports in batches; the keeper and the front read it from Table.
//
// The one thing to know: what is stored and read are ages. A machine reports ages, a replica adds how long it held them, and
// the database subtracts the sum from its own clock. A reader subtracts the age from its own clock again, which is the log's.
// So it does not matter that clocks differ. If the database's clock is set, what was known counts no longer.
package activity

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/keeper"
)

// DB lists the methods of a connection pool that Table uses.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// patience bounds a statement: a report that waits longer says less and less.
const patience = 10 * time.Second

// Table is ops.activity. It implements keeper.Desks and commands.Activities.
type Table struct {
	Pool   DB
	Now    func() time.Time // the log's clock
	Logger *slog.Logger     // nil: silent

	clock clock
}

var _ keeper.Desks = (*Table)(nil)

// Put writes reports, at most one of each instance. Reports of erased accounts, and those older than the row's, are left
// out. The commit waits for the disk: otherwise a crash of Postgres could lose the report that a desktop is used again, and
// the keeper would stop it.
func (t *Table) Put(ctx context.Context, reports []Report) error {
	slices.SortFunc(reports, func(x, y Report) int { return strings.Compare(x.Instance, y.Instance) }) // rows are locked in one order
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := time.Now()
	var now time.Time
	err := t.Pool.QueryRow(ctx, put,
		column(reports, func(r Report) string { return r.Instance }),
		column(reports, func(r Report) string { return r.Account }),
		column(reports, func(r Report) *time.Duration { return since(sent, r.Input) }),
		column(reports, func(r Report) *time.Duration { return since(sent, r.Chat) }),
		column(reports, func(r Report) *time.Duration { return since(sent, r.Agent) }),
		column(reports, func(r Report) *time.Duration { return since(sent, r.Question) }),
		column(reports, func(r Report) *time.Duration { return since(sent, r.Shell) }),
		column(reports, func(r Report) *time.Duration { return since(sent, r.Known) }),
		column(reports, func(r Report) *time.Duration { return since(sent, r.At) }),
		column(reports, func(r Report) bool { return r.Blind }),
		column(reports, func(r Report) *time.Duration { return since(sent, r.NextJob) }),
	).Scan(&now)
	if err != nil {
		return fmt.Errorf("write activity: %w", err)
	}
	_, err = t.look(ctx, sent, now)
	return err
}

// since returns the age of a time; nil without one.
func since(now, at time.Time) *time.Duration {
	if at.IsZero() {
		return nil
	}
	age := now.Sub(at)
	return &age
}

func column[T any](reports []Report, value func(Report) T) []T {
	values := make([]T, len(reports))
	for i, r := range reports {
		values[i] = value(r)
	}
	return values
}

// put writes reports. A time that differs from the row's by less than the noise of two measurements stays the same, unless
// it was measured at that moment. A time that a machine does not report is from before its guest started, and stays; in the
// future it was written by a clock that has been set since.
var put = `WITH new AS (
		SELECT id, account, now() - input AS input_at, now() - chat AS chat_at, now() - agent AS agent_at, now() - question AS question_at,
			now() - shell AS shell_at, now() - known AS known_at, now() - reported AS reported_at, blind, now() - job AS next_job_at
		FROM unnest($1::text[], $2::text[], $3::interval[], $4::interval[], $5::interval[], $6::interval[], $7::interval[], $8::interval[], $9::interval[],
			$10::boolean[], $11::interval[]) AS r (id, account, input, chat, agent, question, shell, known, reported, blind, job)
		WHERE EXISTS (SELECT FROM vault.data_keys k WHERE k.account_id = account)
	), written AS (
		INSERT INTO ops.activity AS a (instance_id, account_id, since, input_at, chat_at, agent_at, question_at, shell_at, known_at, reported_at, blind, next_job_at)
		SELECT id, account, now(), input_at, chat_at, agent_at, question_at, shell_at, known_at, reported_at, blind, next_job_at FROM new
		ON CONFLICT (instance_id) DO UPDATE SET ` + steady("input_at", "chat_at", "agent_at", "question_at", "shell_at") + `
			known_at = CASE WHEN abs(extract(epoch FROM a.known_at - excluded.known_at)) < 2 THEN a.known_at ELSE excluded.known_at END,
			reported_at = excluded.reported_at, blind = excluded.blind,
			next_job_at = CASE WHEN abs(extract(epoch FROM a.next_job_at - excluded.next_job_at)) < 2 THEN a.next_job_at ELSE excluded.next_job_at END
		WHERE a.account_id = excluded.account_id AND (a.reported_at IS NULL OR a.reported_at <= excluded.reported_at OR a.reported_at > now())
	) SELECT now()`

func steady(columns ...string) string {
	var sql strings.Builder
	for _, c := range columns {
		fmt.Fprintf(&sql, `%[1]s = CASE WHEN excluded.%[1]s IS NULL THEN CASE WHEN a.%[1]s <= now() THEN a.%[1]s END
			WHEN excluded.%[1]s < excluded.reported_at - interval '2 seconds' AND abs(extract(epoch FROM a.%[1]s - excluded.%[1]s)) < 2 THEN a.%[1]s ELSE excluded.%[1]s END, `, c)
	}
	return sql.String()
}

// Drop removes what is known of an instance that has ended. The commit does not wait for the disk: DropEnded finds the row
// again if a crash of Postgres brings it back.
func (t *Table) Drop(ctx context.Context, instanceID string) error {
	_, err := t.Pool.Exec(ctx, `DELETE FROM ops.activity WHERE instance_id = $1 RETURNING set_config('synchronous_commit', 'off', true)`, instanceID)
	return err
}

// DropEnded drops what is known of instances that the read models show as ended. Like commands.ChatStore's, it waits for no
// row.
func (t *Table) DropEnded(ctx context.Context) error {
	_, err := t.Pool.Exec(ctx, `
		DELETE FROM ops.activity WHERE instance_id IN (
			SELECT a.instance_id FROM ops.activity a JOIN read.idle i ON i.id = a.instance_id
			WHERE i.status IN ('terminating', 'terminated', 'failed')
			FOR UPDATE OF a SKIP LOCKED)`)
	return err
}

const columns = `a.instance_id, a.account_id, a.since, a.input_at, a.chat_at, a.agent_at, a.question_at, a.shell_at, a.known_at, a.reported_at, a.blind, a.next_job_at`

// scanned is a row of columns in which everything may be missing.
type scanned struct {
	instance, account                                             *string
	since, input, chat, agent, question, shell, known, rept, next *time.Time
	blind                                                         *bool
}

func (s *scanned) fields() []any {
	return []any{&s.instance, &s.account, &s.since, &s.input, &s.chat, &s.agent, &s.question, &s.shell, &s.known, &s.rept, &s.blind, &s.next}
}

// activity returns the row with its times by the clock that shows here while the database's shows now.
func (s *scanned) activity(now, here time.Time) commands.Activity {
	by := func(t *time.Time) time.Time {
		if t == nil {
			return time.Time{}
		}
		return here.Add(t.Sub(now))
	}
	return commands.Activity{
		Instance: value(s.instance), Account: value(s.account), Since: by(s.since), Input: by(s.input), Chat: by(s.chat), Agent: by(s.agent),
		Question: by(s.question), Shell: by(s.shell), Known: by(s.known), Reported: by(s.rept), Blind: value(s.blind), NextJob: by(s.next),
	}
}

func value[T any](v *T) (zero T) {
	if v == nil {
		return zero
	}
	return *v
}

// Activity implements commands.Activities.
func (t *Table) Activity(ctx context.Context, instanceID string) (commands.Activity, time.Time, error) {
	list, now, err := t.read(ctx, `a.instance_id = $1`, instanceID)
	return list[instanceID], now, err
}

// ActivitiesOf implements commands.Activities.
func (t *Table) ActivitiesOf(ctx context.Context, account string) (map[string]commands.Activity, time.Time, error) {
	return t.read(ctx, ofAccount, account)
}

// Beside is ActivitiesOf as a part of a batch: queue adds its query, and read returns its result once the batch is closed. read
// asks again itself if the batch failed before it or took long, or if the database's clock was set.
func (t *Table) Beside(account string) (queue func(*pgx.Batch), read func(context.Context) (map[string]commands.Activity, time.Time, error)) {
	var (
		list      map[string]commands.Activity
		sent      time.Time
		here, now time.Time
		asked     bool
	)
	queue = func(b *pgx.Batch) {
		sent = time.Now()
		b.Queue(reading+ofAccount, account).Query(func(rows pgx.Rows) (err error) {
			list, here, now, err = t.scan(rows)
			asked = err == nil && time.Since(sent) < patience // a long wait would look as if a clock was set
			return nil
		})
	}
	return queue, func(ctx context.Context) (map[string]commands.Activity, time.Time, error) {
		if asked {
			if stepped, err := t.look(ctx, sent, now); err != nil || !stepped {
				return list, here, err
			}
		}
		return t.ActivitiesOf(ctx, account)
	}
}

// reading reads activities with the database's time, which the outer join returns without a row, too.
const (
	reading   = `SELECT ` + columns + `, now FROM (SELECT now()) AS clock (now) LEFT JOIN ops.activity a ON `
	ofAccount = `a.account_id = $1`
)

// scan returns the rows of reading, and what the two clocks showed.
func (t *Table) scan(rows pgx.Rows) (list map[string]commands.Activity, here, now time.Time, err error) {
	list, here = map[string]commands.Activity{}, t.Now()
	var s scanned
	_, err = pgx.ForEachRow(rows, append(s.fields(), &now), func() error {
		if s.instance != nil {
			list[*s.instance] = s.activity(now, here)
		}
		return nil
	})
	return list, here, now, err
}

func (t *Table) read(ctx context.Context, where string, args ...any) (list map[string]commands.Activity, here time.Time, err error) {
	err = t.unstepped(ctx, func(ctx context.Context) (now time.Time, err error) {
		rows, err := t.Pool.Query(ctx, reading+where, args...)
		if err != nil {
			return now, err
		}
		list, here, now, err = t.scan(rows)
		return now, err
	})
	if err != nil {
		return nil, here, fmt.Errorf("read activity: %w", err)
	}
	return list, here, nil
}

// Running implements keeper.Desks. It also notes when the database first knew each run. That commit does not wait for the
// disk: if a crash of Postgres loses it, the run counts from the next call.
func (t *Table) Running(ctx context.Context) (desks []keeper.Desk, here time.Time, err error) {
	err = t.unstepped(ctx, func(ctx context.Context) (now time.Time, err error) {
		desks = nil
		if _, err := t.Pool.Exec(ctx, `
			INSERT INTO ops.activity AS a (instance_id, account_id, run_at, since)
			SELECT d.id, d.account, d.run_at, now() FROM read.idle d LEFT JOIN ops.activity a ON a.instance_id = d.id
			WHERE d.status = 'running' AND (a.instance_id IS NULL OR a.run_at IS DISTINCT FROM d.run_at)
				AND EXISTS (SELECT FROM vault.data_keys k WHERE k.account_id = d.account)
			ORDER BY d.id
			ON CONFLICT (instance_id) DO UPDATE SET run_at = excluded.run_at, since = CASE WHEN a.run_at IS NULL THEN a.since ELSE excluded.since END
			RETURNING set_config('synchronous_commit', 'off', true)`); err != nil {
			return now, err
		}
		rows, err := t.Pool.Query(ctx, `SELECT d.id, d.account, d.type, d.status, d.run_at, d.facts, acc.idle_policy, `+columns+`, now
			FROM (SELECT now()) AS clock (now) LEFT JOIN read.idle d ON d.status = 'running'
			LEFT JOIN read.accounts acc ON acc.id = d.account LEFT JOIN ops.activity a ON a.instance_id = d.id`)
		if err != nil {
			return now, err
		}
		here = t.Now()
		var d row
		_, err = pgx.ForEachRow(rows, append(d.fields(), &now), func() error {
			if d.id != nil {
				desks = append(desks, d.desk(now, here))
			}
			return nil
		})
		return now, err
	})
	if err != nil {
		return nil, here, fmt.Errorf("list running desktops: %w", err)
	}
	return desks, here, nil
}

// Waking implements keeper.Desks.
func (t *Table) Waking(ctx context.Context) ([]keeper.Wake, error) {
	rows, err := t.Pool.Query(ctx, `SELECT id, account, wake_at FROM read.idle WHERE wake_at <= $1 AND status = 'stopped' ORDER BY wake_at`, t.Now())
	if err != nil {
		return nil, fmt.Errorf("list desktops to start: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w keeper.Wake, err error) {
		err = row.Scan(&w.ID, &w.Account, &w.At)
		w.At = w.At.UTC()
		return w, err
	})
	if err != nil {
		return nil, fmt.Errorf("list desktops to start: %w", err)
	}
	return list, nil
}

// unstepped reads, and reads again if it turns out that the database's clock was set.
func (t *Table) unstepped(ctx context.Context, read func(context.Context) (now time.Time, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		sent := time.Now()
		now, err := read(ctx)
		if err != nil {
			return err
		}
		if stepped, err := t.look(ctx, sent, now); !stepped || err != nil {
			return err
		}
	}
}

// look compares the database's clock with this process's. If one of them was set, the rows' times mean nothing any more, so
// they are removed: time counts from when the rows are there again, with the next reports.
func (t *Table) look(ctx context.Context, sent, now time.Time) (stepped bool, err error) {
	by := t.clock.look(sent, now)
	if by == 0 {
		return false, nil
	}
	if t.Logger != nil {
		t.Logger.WarnContext(ctx, "clock step noticed, idle times count from now", "by", by)
	}
	if _, err := t.Pool.Exec(ctx, `DELETE FROM ops.activity`); err != nil {
		t.clock.forget(by)
		return true, fmt.Errorf("forget activity after a clock step: %w", err)
	}
	return true, nil
}
