package migrations_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/migrations"
)

// fill adds an event with a receipt, a receipt alone, a data key, a named key and a saved chat.
func fill(t *testing.T, u string) {
	t.Helper()
	execute(t, u, `
		DO $$ BEGIN PERFORM log.begin_append();
		INSERT INTO log.entries (position, version, time, schema, stream_key, receipt_key, stream, type, id, data, meta, receipt)
		VALUES (1, 1, now(), 1, gen_random_uuid(), gen_random_uuid(), 'instance/1', 'x', 'e', '{}', '{}', 'r1'),
			(NULL, NULL, now(), NULL, NULL, gen_random_uuid(), NULL, NULL, NULL, NULL, NULL, 'r2'); END $$;
		INSERT INTO vault.data_keys VALUES ('a', '\x0102030405060708', 'k', '\x00');
		INSERT INTO vault.named_keys VALUES ('blind', 'k', '\x00');
		INSERT INTO vault.chats VALUES ('i', 'a', now(), '\x00');
		INSERT INTO read.checkpoints VALUES ('accounts', 1), ('boots', 1), ('instances', 1), ('history', 1)`)
}

// holdings counts what must never be lost.
const holdings = `SELECT format('%s entries, %s events, %s receipts, %s data keys, %s named keys, epoch %s',
	(SELECT count(*) FROM log.entries), (SELECT count(*) FROM log.events), (SELECT count(*) FROM log.receipts),
	(SELECT count(*) FROM vault.data_keys), (SELECT count(*) FROM vault.named_keys), (SELECT max(epoch) FROM relay.epochs))`

func newest(t *testing.T, u string) int64 {
	t.Helper()
	return query[int64](t, u, `SELECT max(version_id) FROM ops.schema_migrations WHERE is_applied`)
}

// Down is repeated until it refuses, with and without data. It ends before the first migration that holds something, and
// log, receipts, vault and epochs are there afterwards. Up then makes the schema as it was.
func TestDownStopsBeforeWhatCannotBeMadeAgain(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]bool{"empty": false, "with data": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := pgtest.New(t)
			const chats = `SELECT count(*) FROM vault.chats`
			if data {
				fill(t, u)
			}
			held := query[string](t, u, holdings)
			undone := map[int64]bool{}
			down := func() error {
				before := newest(t, u)
				version, _, err := migrations.Down(t.Context(), u)
				if after := newest(t, u); err == nil && (version != before || after != before-1) || err != nil && after != before {
					t.Fatalf("from %d: got %d undone, %v and schema %d, want one migration less, or none after a refusal", before, version, err, after)
				}
				undone[version] = true
				return err
			}
			err := down()
			for ; err == nil; err = down() {
			}
			if data {
				if !strings.Contains(err.Error(), "migration 11 (chats) would lose 1 saved chats: run the servers with KEEP_CHATS=false") || query[int](t, u, chats) != 1 {
					t.Fatalf("got %v, want a refusal that names the saved chat", err)
				}
				execute(t, u, `DELETE FROM vault.chats`)
				for err = down(); err == nil; err = down() {
				}
				if n := query[int](t, u, `SELECT count(*) FROM read.checkpoints WHERE projection <> 'history'`); n != 0 {
					t.Errorf("got %d checkpoints of read models whose tables were undone, want none", n)
				}
			}
			if want := "migration 5 (epochs) is never undone"; !strings.Contains(err.Error(), want) || len(undone) != 10 { // 14 to 6, and 0 for the refusals
				t.Errorf("got %v after %v, want %q after 14 to 6", err, undone, want)
			}
			if got := query[string](t, u, holdings); got != held {
				t.Errorf("got %s, want %s", got, held)
			}
			if err := migrations.Up(t.Context(), u, silent); err != nil || newest(t, u) != 14 {
				t.Errorf("up again: got %v and schema %d, want 14", err, newest(t, u))
			}
		})
	}
}

// Each migration, one that is not undoable included, is made the newest in turn. None of those that hold something is
// undone, not even on an empty database.
func TestNoPathToWhatCannotBeMadeAgain(t *testing.T) {
	t.Parallel()
	for _, data := range []bool{false, true} {
		u := pgtest.New(t)
		if data {
			fill(t, u)
		}
		held := query[string](t, u, holdings)
		for version := 5; version >= 1; version-- {
			execute(t, u, fmt.Sprintf(`DELETE FROM ops.schema_migrations WHERE version_id > %d`, version))
			if _, _, err := migrations.Down(t.Context(), u); err == nil || !strings.Contains(err.Error(), "is never undone") || !strings.Contains(err.Error(), "restore a backup") {
				t.Errorf("migration %d: got %v, want a refusal that says what to do instead", version, err)
			}
		}
		execute(t, u, `DELETE FROM ops.schema_migrations WHERE version_id > 0`)
		if _, _, err := migrations.Down(t.Context(), u); err == nil || !strings.Contains(err.Error(), "no migration to undo") {
			t.Errorf("without any: got %v, want a refusal", err)
		}
		if got := query[string](t, u, holdings); got != held {
			t.Errorf("got %s, want %s", got, held)
		}
	}
}

// A programmer who declares one of them undoable is stopped by what Down finds in its own transaction.
func TestAWrongDeclarationLosesNothing(t *testing.T) {
	t.Parallel()
	bad := migrations.NewProgram(migrations.Files(), 0, map[int64]migrations.Undo{1: {}, 3: {}, 5: {}, 11: {}})
	for _, data := range []bool{false, true} {
		u := pgtest.New(t)
		if data {
			fill(t, u)
		}
		held := query[string](t, u, holdings)
		for _, version := range []int{11, 5, 3, 1} {
			if version == 11 && !data {
				continue // an empty table of chats may go
			}
			execute(t, u, fmt.Sprintf(`DELETE FROM ops.schema_migrations WHERE version_id > %d`, version))
			if _, _, err := bad.Down(t.Context(), u); err == nil || !strings.Contains(err.Error(), "cannot be undone, because that would remove the table ") {
				t.Errorf("migration %d: got %v, want a refusal", version, err)
			}
		}
		if got := query[string](t, u, holdings); got != held {
			t.Errorf("got %s, want %s", got, held)
		}
	}
}

// Down sections that would empty or narrow a table, instead of removing it.
func TestDownThatEmptiesATableIsRefused(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"DELETE FROM vault.data_keys", "TRUNCATE vault.named_keys", "ALTER TABLE log.entries DROP COLUMN meta CASCADE",
		"ALTER TABLE log.entries DISABLE TRIGGER USER; DELETE FROM log.entries WHERE position IS NULL", "ALTER TABLE vault.data_keys RENAME TO k",
	} {
		u := pgtest.New(t)
		fill(t, u)
		held := query[string](t, u, holdings)
		p := with(t, "0014_bad.sql", "-- +goose Up\nSELECT 1;\n-- +goose Down\n"+sql+";", migrations.Undo{})
		if err := p.Up(t.Context(), u, silent); err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.Down(t.Context(), u); err == nil || !strings.Contains(err.Error(), "cannot be undone, because") {
			t.Errorf("%s: got %v, want a refusal", sql, err)
		}
		if got := query[string](t, u, holdings); got != held || newest(t, u) != 14 {
			t.Errorf("%s: got %s, schema %d, want %s and 14", sql, got, newest(t, u), held)
		}
	}
}

// A migration of a newer program is undone by that program.
func TestDownLeavesANewersMigration(t *testing.T) {
	t.Parallel()
	u := pgtest.New(t)
	execute(t, u, `INSERT INTO ops.schema_migrations (version_id, is_applied) VALUES (9999, true)`)
	if _, _, err := migrations.Down(t.Context(), u); err == nil || !strings.Contains(err.Error(), "belongs to a newer version") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// The files are the schema's history. testdata/sums has their checksums: add the line of a new file, change none.
func TestFilesAreNeverEdited(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/sums")
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(migrations.Files(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, name := range names {
		text, err := fs.ReadFile(migrations.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%x  %s\n", sha256.Sum256(text), name)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s\nA file on main is never edited; for a new one run: cd migrations && sha256sum *.sql > testdata/sums", got.String(), want)
	}
}

// A server of a version that holds no lock still has what it needs.
func TestDownWaitsForEarlierServers(t *testing.T) {
	t.Parallel()
	u := pgtest.New(t)
	cfg, err := pgx.ParseConfig(u)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["application_name"] = "cloudbot append"
	server, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(context.WithoutCancel(t.Context()))
	for want := int64(14); want > 11; want-- {
		if version, _, err := migrations.Down(t.Context(), u); version != want || err != nil {
			t.Fatalf("got %d and %v, want %d undone, which that server does not know", version, err, want)
		}
	}
	if _, _, err := migrations.Down(t.Context(), u); err == nil || !strings.Contains(err.Error(), "of an earlier version is connected") || newest(t, u) != 11 {
		t.Errorf("got %v, want a refusal that names the server", err)
	}
}
