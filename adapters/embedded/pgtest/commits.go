package pgtest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Commits counts a database's commits, by whether they wait for the disk.
type Commits struct {
	t    testing.TB
	conn *pgx.Conn
}

// WatchCommits begins to count the commits that write rows of tables which exist now. It asks no clock and no statistics: a
// deferred trigger on each table notes, as part of the commit, whether that waits.
func WatchCommits(t testing.TB, databaseURL string) *Commits {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), `
		CREATE SCHEMA watch;
		CREATE UNLOGGED TABLE watch.writes (tx xid8, waits boolean, place text);
		CREATE FUNCTION watch.note() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO watch.writes VALUES (pg_current_xact_id(), current_setting('synchronous_commit') <> 'off', TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME);
			RETURN NULL;
		END $$;
		DO $$ DECLARE place text;
		BEGIN
			FOR place IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('log', 'ops', 'read', 'relay', 'vault') LOOP
				EXECUTE 'CREATE CONSTRAINT TRIGGER watched AFTER INSERT OR UPDATE OR DELETE ON ' || place
					|| ' DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch.note()';
			END LOOP;
		END $$`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	return &Commits{t, conn}
}

// Next returns the commits since the last call: those that waited for the disk, and the others. Each is the list of the tables
// that it wrote, such as "ops.leases" or "read.checkpoints read.instances".
func (c *Commits) Next() (waited, others []string) {
	c.t.Helper()
	rows, err := c.conn.Query(c.t.Context(), `
		WITH gone AS (DELETE FROM watch.writes RETURNING *)
		SELECT bool_or(waits), array_agg(DISTINCT place) FROM gone GROUP BY tx ORDER BY tx`)
	if err != nil {
		c.t.Fatal(err)
	}
	var waits bool
	var places []string
	if _, err := pgx.ForEachRow(rows, []any{&waits, &places}, func() error {
		slices.Sort(places)
		if name := strings.Join(places, " "); waits {
			waited = append(waited, name)
		} else {
			others = append(others, name)
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	return waited, others
}

// Expect compares the commits since the last call with those that were expected.
func (c *Commits) Expect(waited, others []string) {
	c.t.Helper()
	gotWaited, gotOthers := c.Next()
	if !slices.Equal(gotWaited, waited) || !slices.Equal(gotOthers, others) {
		c.t.Errorf("got commits that waited for the disk %q and others %q, want %q and %q", gotWaited, gotOthers, waited, others)
	}
}
