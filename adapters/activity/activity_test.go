package activity_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/adapters/activity"
	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// now is the log's clock in these tests: it is an hour behind the database's, and that must not matter.
func now() time.Time { return time.Now().UTC().Add(-time.Hour) }

// database is a real Postgres whose now() can be set.
type database struct {
	*activity.Table
	pool *pgxpool.Pool
}

func open(t testing.TB, accounts ...string) database {
	t.Helper()
	base := pgtest.New(t)
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", "fake,pg_catalog") // now() is the function below, which the server's own one does not hide
	u.RawQuery = q.Encode()
	pool, err := pgxpool.New(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	d := database{&activity.Table{Pool: pool, Now: now}, pool}
	d.exec(t, `CREATE SCHEMA fake`)
	d.exec(t, `CREATE TABLE fake.clock AS SELECT interval '0' AS off`)
	d.exec(t, `CREATE FUNCTION fake.now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT pg_catalog.now() + off FROM fake.clock'`)
	for _, a := range accounts {
		d.exec(t, `INSERT INTO vault.data_keys (account_id, key_id, wrapped_by, wrapped) VALUES ($1, '\x0102030405060708', 'k', '\x00')`, a)
		d.exec(t, `INSERT INTO read.accounts (id, email, created_at, position) VALUES ($1, '', now(), 1)`, a)
	}
	return d
}

func (d database) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := d.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (d database) set(t testing.TB, off time.Duration) {
	t.Helper()
	d.exec(t, `UPDATE fake.clock SET off = $1`, off)
}

// desktop writes a row of read.idle.
func (d database) desktop(t testing.TB, id, account string, status instance.Status, run time.Time, facts string) {
	t.Helper()
	d.exec(t, `INSERT INTO read.idle (id, account, type, status, running, run_at, facts, position) VALUES ($1, $2, 't3.large', $3, true, $4, $5, 1)
		ON CONFLICT (id) DO UPDATE SET status = excluded.status, run_at = excluded.run_at`, id, account, string(status), run, facts)
}

func (d database) put(t testing.TB, reports ...activity.Report) {
	t.Helper()
	if err := d.Put(t.Context(), reports); err != nil {
		t.Fatal(err)
	}
}

func (d database) get(t testing.TB, id string) commands.Activity {
	t.Helper()
	a, at, err := d.Activity(t.Context(), id)
	if err != nil || time.Since(at.Add(time.Hour)).Abs() > time.Minute {
		t.Fatalf("got %v, %v, want the log's time", at, err)
	}
	return a
}

// beside reads an account's activities as a part of a batch.
func (d database) beside(t testing.TB, account string) (map[string]commands.Activity, error) {
	t.Helper()
	queue, read := d.Beside(account)
	var b pgx.Batch
	b.Queue(`SELECT 1`)
	queue(&b)
	if err := d.pool.SendBatch(t.Context(), &b).Close(); err != nil {
		t.Fatal(err)
	}
	list, at, err := read(t.Context())
	if err == nil && time.Since(at.Add(time.Hour)).Abs() > time.Minute {
		t.Errorf("got %v, want the log's time", at)
	}
	return list, err
}

// near reports whether a time by the log's clock is so long ago.
func near(t time.Time, ago time.Duration) bool {
	return !t.IsZero() && now().Add(-ago).Sub(t).Abs() < 10*time.Second
}

func ago(d time.Duration) time.Time { return time.Now().Add(-d) }

func TestReportsAreRead(t *testing.T) {
	t.Parallel()
	d := open(t, "ada", "bob")
	if got := d.get(t, "x"); got != (commands.Activity{}) {
		t.Errorf("got %+v of an unknown desktop, want nothing", got)
	}
	at := ago(0)
	r := activity.Report{Instance: "x", Account: "ada", At: at, Known: ago(2 * time.Hour), Input: ago(time.Hour), Agent: at, NextJob: ago(-3 * time.Hour)}
	d.put(t, r, activity.Report{Instance: "y", Account: "bob", At: ago(0), Known: ago(0), Blind: true}, activity.Report{Instance: "z", Account: "erased", At: ago(0)})
	got := d.get(t, "x")
	if got.Instance != "x" || got.Account != "ada" || got.Blind || !near(got.Since, 0) || !near(got.Known, 2*time.Hour) || !near(got.Reported, 0) ||
		!near(got.Input, time.Hour) || !near(got.Agent, 0) || !near(got.NextJob, -3*time.Hour) || !got.Chat.IsZero() || !got.Question.IsZero() || !got.Shell.IsZero() {
		t.Errorf("got %+v, want what was reported", got)
	}
	if !got.Agent.Equal(got.Reported) {
		t.Errorf("got %v and %v, want an agent that works to have worked when it was reported", got.Agent, got.Reported)
	}
	of, _, err := d.ActivitiesOf(t.Context(), "bob")
	if err != nil || len(of) != 1 || !of["y"].Blind || of["y"].Account != "bob" {
		t.Errorf("got %+v, %v, want bob's desktop only", of, err)
	}
	if of, err := d.beside(t, "bob"); err != nil || len(of) != 1 || !of["y"].Blind || of["y"].Account != "bob" {
		t.Errorf("in a batch: got %+v, %v, want bob's desktop only", of, err)
	}
	if _, read := d.Beside("bob"); true { // the batch failed before it
		if of, _, err := read(t.Context()); err != nil || len(of) != 1 {
			t.Errorf("after a failed batch: got %+v, %v, want bob's desktop", of, err)
		}
	}
	if got := d.get(t, "z"); got != (commands.Activity{}) {
		t.Errorf("got %+v of an erased account's desktop, want nothing", got)
	}
	// A report that was late, one of another account, and one without a time that the row has.
	d.put(t, activity.Report{Instance: "x", Account: "ada", At: ago(time.Minute), Known: ago(time.Minute), Input: ago(30 * time.Minute)})
	d.put(t, activity.Report{Instance: "x", Account: "bob", At: ago(0), Known: ago(0), Input: ago(0)})
	if again := d.get(t, "x"); !near(again.Input, time.Hour) || !near(again.Known, 2*time.Hour) {
		t.Errorf("got %+v after a late report and another account's, want the row as it was", again)
	}
	d.put(t, activity.Report{Instance: "x", Account: "ada", At: ago(0), Known: ago(0), Chat: ago(time.Minute)})
	if again := d.get(t, "x"); !near(again.Input, time.Hour) || !near(again.Chat, time.Minute) || !near(again.Known, 0) || !again.NextJob.IsZero() {
		t.Errorf("got %+v after the guest was restarted, want its last input kept", again)
	}
}

// Rows go when their desktop ends and when their account is erased.
func TestRowsGo(t *testing.T) {
	t.Parallel()
	d := open(t, "ada", "bob")
	for _, id := range []string{"a", "b", "c", "d"} {
		account := map[bool]string{true: "bob", false: "ada"}[id == "d"]
		d.put(t, activity.Report{Instance: id, Account: account, At: ago(0), Known: ago(0)})
		d.desktop(t, id, account, map[string]instance.Status{"b": instance.StatusTerminated}[id], now(), `{}`)
	}
	if err := d.Drop(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := d.DropEnded(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.exec(t, `DELETE FROM vault.data_keys WHERE account_id = 'bob'`)
	for id, want := range map[string]string{"a": "", "b": "", "c": "c", "d": ""} {
		if got := d.get(t, id); got.Instance != want {
			t.Errorf("%s: got %+v, want %q", id, got, want)
		}
	}
}

// The keeper gets each running desktop with what the log and the machine say, and the database notes when it knew each run.
func TestRunning(t *testing.T) {
	t.Parallel()
	d := open(t, "ada")
	d.exec(t, `UPDATE read.accounts SET idle_policy = '{"after_s":7200,"warn_s":60,"ceiling_s":0,"jobs":"sleep"}'`)
	first := now().Add(-20 * time.Hour).Truncate(time.Microsecond)
	d.desktop(t, "a", "ada", instance.Running, first, `{"region":"local","policy":{"after_s":600,"warn_s":0,"ceiling_s":0,"jobs":"wake"},"warned":{"stop_at":"2030-01-02T03:04:05Z","cause":"idle"},"extended":"2030-01-02T03:04:05Z"}`)
	d.desktop(t, "b", "ada", instance.Stopped, first, `{}`)
	d.desktop(t, "c", "erased", instance.Running, first, `{}`)
	d.put(t, activity.Report{Instance: "a", Account: "ada", At: ago(0), Known: ago(time.Hour), Agent: ago(0)})
	d.exec(t, `UPDATE ops.activity SET since = since - interval '5 hours'`)
	list, at, err := d.Running(t.Context())
	if err != nil || len(list) != 2 || !near(at, 0) {
		t.Fatalf("got %+v, %v, %v, want a and c", list, at, err)
	}
	for _, x := range list {
		switch x.ID {
		case "a":
			s := x.State
			if s.Account != "ada" || s.Type != "t3.large" || s.Region != "local" || s.Status != instance.Running || !s.RunAt.Equal(first) || s.Idle == nil || s.Idle.After != 600 || s.Warned == nil ||
				s.Warned.Cause != instance.CauseIdle || s.Extended.Year() != 2030 || x.Account == nil || x.Account.After != 7200 || !near(x.Activity.Agent, 0) || !near(x.Activity.Since, 5*time.Hour) {
				t.Errorf("got %+v, want all that is known, since its first report", x)
			}
		case "c":
			if x.Activity != (commands.Activity{}) || x.Account != nil {
				t.Errorf("got %+v, want nothing known of it", x)
			}
		}
	}
	since := d.get(t, "a").Since
	later := func(t *testing.T, what string, want bool) {
		t.Helper()
		if _, _, err := d.Running(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := d.get(t, "a").Since; (got.Sub(since) > time.Hour) != want {
			t.Errorf("%s: got %v after %v, want another time: %v", what, got, since, want)
		}
	}
	later(t, "the same run", false)
	d.desktop(t, "a", "ada", instance.Running, first.Add(time.Hour), `{}`)
	later(t, "another run", true)
	d.exec(t, `UPDATE ops.activity SET since = since - interval '5 hours'`)
	since = d.get(t, "a").Since
	d.exec(t, `DELETE FROM ops.activity`)
	later(t, "a row that was lost", true)
}

func TestWaking(t *testing.T) {
	t.Parallel()
	d := open(t, "ada")
	for id, in := range map[string]time.Duration{"a": -time.Minute, "b": time.Minute, "c": -time.Hour, "d": -time.Hour} {
		d.desktop(t, id, "ada", map[bool]instance.Status{true: instance.Running, false: instance.Stopped}[id == "d"], now(), `{}`)
		d.exec(t, `UPDATE read.idle SET wake_at = $2 WHERE id = $1`, id, now().Add(in))
	}
	list, err := d.Waking(t.Context())
	if err != nil || len(list) != 2 || list[0].ID != "c" || list[1].ID != "a" || list[0].Account != "ada" || !near(list[0].At, time.Hour) {
		t.Errorf("got %+v, %v, want c and a, which are due and stopped", list, err)
	}
}

// A set clock of the database has time count from then, whatever it is set to. What is reported afterwards counts again.
func TestClockStep(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{5 * time.Hour, -5 * time.Hour} {
		for name, notice := range map[string]func(d database) error{
			"read one": func(d database) error { _, _, err := d.Activity(t.Context(), "a"); return err },
			"read in a batch": func(d database) error {
				list, err := d.beside(t, "ada")
				if got := list["a"]; !got.Input.IsZero() {
					err = fmt.Errorf("got %+v from before the step", got)
				}
				return err
			},
			"list running": func(d database) error { _, _, err := d.Running(t.Context()); return err },
			"write": func(d database) error {
				return d.Put(t.Context(), []activity.Report{{Instance: "other", Account: "ada", At: ago(0)}})
			},
		} {
			t.Run(fmt.Sprint(name, by), func(t *testing.T) {
				t.Parallel()
				d := open(t, "ada")
				d.desktop(t, "a", "ada", instance.Running, now(), `{}`)
				d.put(t, activity.Report{Instance: "a", Account: "ada", At: ago(0), Known: ago(3 * time.Hour), Input: ago(2 * time.Hour), Agent: ago(time.Hour)})
				d.exec(t, `UPDATE ops.activity SET since = since - interval '9 hours'`)
				if got := d.get(t, "a"); !near(got.Known, 3*time.Hour) || !near(got.Since, 9*time.Hour) {
					t.Fatalf("got %+v, want what was reported", got)
				}
				d.set(t, by)
				if err := notice(d); err != nil {
					t.Fatal(err)
				}
				got := d.get(t, "a")
				if want := (commands.Activity{Instance: got.Instance, Account: got.Account, Since: got.Since}); got != want || got.Instance != "" && !near(got.Since, 0) {
					t.Errorf("got %+v, want nothing known from before the step", got)
				}
				d.put(t, activity.Report{Instance: "a", Account: "ada", At: ago(0), Known: ago(0), Input: ago(2 * time.Hour)})
				got = d.get(t, "a")
				if !near(got.Known, 0) || !near(got.Reported, 0) || !near(got.Input, 2*time.Hour) || !near(got.Since, 0) || !got.Agent.IsZero() {
					t.Errorf("got %+v after a report, want it to count", got)
				}
			})
		}
	}
}

// The table does what the model of the schedules does, with any reports in any order.
func TestTableIsTheModel(t *testing.T) {
	t.Parallel()
	d := open(t, "ada", "bob")
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		m := newModel()
		m.here = now
		id := fmt.Sprint("desk ", n)
		age := func(what string) time.Time {
			if rapid.Bool().Draw(rt, what) {
				return time.Time{}
			}
			return ago(time.Duration(rapid.IntRange(0, 9).Draw(rt, what+" is")) * 20 * time.Minute)
		}
		for range rapid.IntRange(1, 6).Draw(rt, "reports") {
			r := activity.Report{Instance: id, Account: rapid.SampledFrom([]string{"ada", "ada", "ada", "bob"}).Draw(rt, "account"), Blind: rapid.Bool().Draw(rt, "blind"),
				At: ago(time.Duration(rapid.IntRange(0, 2).Draw(rt, "late")) * time.Minute), Known: age("known"), Input: age("input"), Chat: age("chat"), Agent: age("agent"),
				Question: age("question"), Shell: age("shell"), NextJob: age("next")}
			d.put(t, r)
			m.put([]activity.Report{r})
		}
		got := d.get(t, id)
		want, _ := m.get(id)
		same := func(a, b time.Time) bool { return a.IsZero() == b.IsZero() && a.Sub(b).Abs() < 15*time.Second }
		if got.Account != want.Account || got.Blind != want.Blind || !same(got.Since, want.Since) || !same(got.Known, want.Known) || !same(got.Reported, want.Reported) ||
			!same(got.Input, want.Input) || !same(got.Chat, want.Chat) || !same(got.Agent, want.Agent) || !same(got.Question, want.Question) || !same(got.Shell, want.Shell) || !same(got.NextJob, want.NextJob) {
			rt.Fatalf("got\n%+v, want\n%+v", got, want)
		}
	})
}

// Nothing is known while the database does not answer.
func TestNoDatabase(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := d.Activity(ctx, "x"); err == nil {
		t.Error("got an answer, want an error")
	}
	if _, _, err := d.Running(ctx); err == nil {
		t.Error("got a list of running desktops, want an error")
	}
	if _, err := d.Waking(ctx); err == nil {
		t.Error("got a list of waking desktops, want an error")
	}
	if err := d.Put(ctx, []activity.Report{{}}); err == nil {
		t.Error("got a write, want an error")
	}
}
