package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func count(t *testing.T, conn *pgx.Conn, sql string) (n int64) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

func openStore(t *testing.T, url string) *postgres.Store {
	t.Helper()
	store, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

// nasty has what COPY's text form must escape, and what an encoding could change.
const nasty = `{"text":"tab \t line \n back\\slash \\N \\. ü 😀 \u0000 '\"","n":1.50}`

func event(n int) eventstore.Append {
	return eventstore.Append{
		Writes: []eventstore.Write{{Stream: eventstore.StreamID{Aggregate: "thing", ID: ulid.Make().String()}, Events: []eventstore.NewEvent{{
			ID: ulid.Make().String(), Type: "thing.done", Schema: 1, Data: []byte(nasty), Meta: eventstore.Metadata{Actor: "ada"},
		}}}},
		Receipt: &eventstore.Receipt{Key: fmt.Sprint("ada/", ulid.Make()), Request: []byte{0, 1, 2, 255}, Response: []byte(`{"n": ` + fmt.Sprint(n) + `}`)},
	}
}

// filled returns a database with events, receipts without events, keys and chats.
func filled(t *testing.T, events int) string {
	t.Helper()
	url := pgtest.New(t)
	store := openStore(t, url)
	for n := range events {
		if _, err := store.Append(t.Context(), event(n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Append(t.Context(), eventstore.Append{Receipt: &eventstore.Receipt{Key: "ada/nothing"}}); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	execute(t, conn, `INSERT INTO vault.named_keys VALUES ('blind', 'key-1', '\x00ff', '2030-01-02 03:04:05.678901+02')`)
	execute(t, conn, `INSERT INTO vault.data_keys VALUES ('ada', '\x0001020304050607', 'key-1', '\xdeadbeef'), ('eve', '\x0801020304050607', 'key-2', '\x')`)
	execute(t, conn, `INSERT INTO vault.chats VALUES ('01DESK', 'ada', now(), decode(repeat('ab', 300000), 'hex'))`)
	return url
}

// made backs a database up into a folder.
func made(t *testing.T, url string, part int) (Folder, Manifest) {
	t.Helper()
	to, err := CreateFolder(filepath.Join(t.TempDir(), "backup"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Make(t.Context(), Config{Conn: connect(t, url), To: to, Schema: oldestSchema, CloudBot: "test", Environment: "test", partBytes: part})
	if err == nil {
		err = to.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	return Folder(to.String()), m
}

// Every table is in exactly one of the two lists. Add a new table to one of them: a backup contains it or not.
func TestEveryTableIsListed(t *testing.T) {
	t.Parallel()
	conn := connect(t, pgtest.New(t))
	rows, _ := conn.Query(t.Context(), `SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < len(kept) {
		t.Fatalf("got %v, %v, want the tables of the schema", tables, err)
	}
	for _, name := range tables {
		schema, _, _ := strings.Cut(name, ".")
		left := disposable[name] != "" || disposable[schema+"."] != ""
		if (orderOf(name) != "") == left {
			t.Errorf("%s: got kept %v and disposable %v, want one of them: decide in backup.go whether a backup contains it", name, orderOf(name) != "", left)
		}
	}
	for _, k := range kept {
		if !slices.Contains(tables, k.name) {
			t.Errorf("%s is kept, but does not exist", k.name)
		}
	}
}

// A migration after oldestSchema must not change the kept tables: rows of an older backup would not get its changes.
func TestOldestSchema(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../migrations/*.sql")
	if err != nil || len(files) < oldestSchema {
		t.Fatalf("got %v, %v, want the migrations", files, err)
	}
	for _, file := range files {
		var n int64
		if _, err := fmt.Sscanf(filepath.Base(file), "%04d_", &n); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		if touched := regexp.MustCompile(`(?i)(ALTER TABLE|UPDATE|INTO|FROM|CREATE TABLE)\s+(ONLY\s+)?(log|vault|relay)\.\w+`).FindString(up); n > oldestSchema && touched != "" {
			t.Errorf("%s has %q: raise oldestSchema to %d, or show that rows of older backups fit, and exempt it here", filepath.Base(file), touched, n)
		}
	}
}

// A backup restored into another major version of PostgreSQL, in both directions, has the same rows, and the restored
// log is written like any other.
func TestRestoreIntoAnotherMajorVersion(t *testing.T) {
	t.Parallel()
	url := filled(t, 40)
	newer := pgtest.New16(t)
	if err := migrations.Up(t.Context(), newer, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	from, m := made(t, url, 1000)
	roundTrip(t, from, m, newer)

	// Back again: the newer server's backup of the same rows has the same checksums.
	again, second := made(t, newer, 0)
	if m.PostgreSQL == second.PostgreSQL {
		t.Errorf("got PostgreSQL %s twice, want two versions", m.PostgreSQL)
	}
	for i, table := range second.Tables {
		if table.Name != "relay.epochs" && table.Name != "log.entries" && table.SHA256 != m.Tables[i].SHA256 {
			t.Errorf("%s: got other rows from PostgreSQL %s than from %s", table.Name, second.PostgreSQL, m.PostgreSQL)
		}
	}
	roundTrip(t, again, second, pgtest.New(t))
}

// roundTrip restores a backup and uses the restored log.
func roundTrip(t *testing.T, from Folder, m Manifest, url string) {
	t.Helper()
	read, err := Read(t.Context(), from)
	if err != nil || read.ID != m.ID {
		t.Fatalf("got %+v, %v, want manifest %s", read, err, m.ID)
	}
	if err := Verify(t.Context(), from, read, nil); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	done, err := Load(t.Context(), conn, from, read, nil)
	if err != nil || done.Head != m.Head || done.Epoch != m.Epoch+1 {
		t.Fatalf("got %+v, %v, want head %d and epoch %d", done, err, m.Head, m.Epoch+1)
	}
	if begun, err := Begun(t.Context(), conn); err != nil || begun != done {
		t.Errorf("got %+v, %v, want %+v", begun, err, done)
	}
	if n := count(t, conn, `SELECT count(*) FROM log.entries`); n != m.Rows("log.entries") {
		t.Errorf("got %d entries, want %d", n, m.Rows("log.entries"))
	}
	store := openStore(t, url)
	res, err := store.Append(t.Context(), event(1))
	if err != nil || res.Last != m.Head+1 {
		t.Errorf("the next append: got %+v, %v, want position %d", res, err, m.Head+1)
	}
	if r, err := store.Receipt(t.Context(), "ada/nothing"); err != nil || r == nil {
		t.Errorf("a receipt without an event: got %v, %v, want it", r, err)
	}
	if _, err := conn.Exec(t.Context(), `DELETE FROM log.entries`); err == nil {
		t.Error("got a log that can be emptied, want its triggers")
	}
	// A second restore is refused, and changes nothing.
	if _, err := Load(t.Context(), conn, from, read, nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second restore: got %v, want a refusal", err)
	}
}

// Appends continue while a backup is made, and the backup has every position up to its head.
func TestBackupUnderLoad(t *testing.T) {
	t.Parallel()
	url := filled(t, 200)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	store := openStore(t, url)
	for range 4 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := store.Append(t.Context(), event(n)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	// The target lets no part pass before an append has come through since: a lock would make it hang.
	to := &slow{store: store}
	m, err := Make(t.Context(), Config{Conn: connect(t, url), To: to, Schema: oldestSchema, partBytes: 2000})
	stop()
	writers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	last, err := store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.Positions != m.Head || m.Head >= last || len(to.names) < 5 {
		t.Errorf("got %d events up to %d of %d in %d objects, want no gap, a later head and several objects", m.Positions, m.Head, last, len(to.names))
	}
	t.Logf("backup of %d events in %d objects, while the log grew to %d", m.Head, len(to.names), last)
	if to.names[len(to.names)-1] != manifestName {
		t.Errorf("got %s last, want %s", to.names[len(to.names)-1], manifestName)
	}
}

// slow is a target that waits for appends.
type slow struct {
	store *postgres.Store
	names []string
	seen  int64
}

func (s *slow) String() string { return "slow" }

func (s *slow) Put(ctx context.Context, name string, _ []byte) error {
	s.names = append(s.names, name)
	for {
		head, err := s.store.Head(ctx)
		if err != nil || head > s.seen {
			s.seen = head
			return err
		}
	}
}

// Whatever is changed in a backup, it is refused with one sentence, and nothing is restored.
func TestDamagedBackups(t *testing.T) {
	t.Parallel()
	from, m := made(t, filled(t, 60), 1000)
	part := m.Tables[0].Parts[1].Name
	change := func(name string, f func([]byte) []byte) func(dir string) error {
		return func(dir string) error {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, name), f(text), 0o600)
		}
	}
	remove := func(name string) func(dir string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte { return []byte(strings.Replace(string(b), old, new, 1)) }
	}
	for name, c := range map[string]struct {
		damage func(dir string) error
		says   string
	}{
		"no manifest":        {remove(manifestName), "is not a backup"},
		"half a manifest":    {change(manifestName, func(b []byte) []byte { return b[:len(b)/2] }), "is damaged"},
		"a changed manifest": {change(manifestName, replace(`"head": `, `"head": 1`)), "another checksum"},
		"another format":     {change(manifestName, replace(`"format": 1`, `"format": 2`)), "has format 2"},
		"a missing part":     {remove(part), part + " is missing"},
		"a part cut off":     {change(part, func(b []byte) []byte { return b[:len(b)-9] }), "is damaged"},
		"half a part":        {change(part, func(b []byte) []byte { return b[:len(b)/2] }), "is damaged"},
		"an empty part":      {change(part, func([]byte) []byte { return nil }), "is damaged"},
		"a byte more":        {change(part, func(b []byte) []byte { return append(b, 0) }), "is damaged"},
		"a byte changed":     {change(part, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), "is damaged"},
		"a checksum's byte":  {change(part, func(b []byte) []byte { b[len(b)-6] ^= 1; return b }), "is damaged"},
		"a header's byte":    {change(part, func(b []byte) []byte { b[4] ^= 1; return b }), "is damaged"},
		"not compressed":     {change(part, func(b []byte) []byte { return []byte(strings.Repeat("x", len(b))) }), "is damaged"},
		"a part of another one": {func(dir string) error {
			return os.Rename(filepath.Join(dir, m.Tables[0].Parts[2].Name), filepath.Join(dir, part))
		}, "is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(dir, os.DirFS(string(from))); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			read, err := Read(t.Context(), Folder(dir))
			if err == nil {
				err = Verify(t.Context(), Folder(dir), read, nil)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.ContainsAny(err.Error(), "\n") {
				t.Fatalf("got %v, want one sentence with %q", err, c.says)
			}
		})
	}
}

// What is damaged between the check and the load leaves the database empty, and so does a manifest that another
// program sealed.
func TestFailedLoadLeavesNothing(t *testing.T) {
	t.Parallel()
	from, m := made(t, filled(t, 60), 1000)
	conn := connect(t, pgtest.New(t))
	forge := func(change func(*Manifest)) Manifest {
		other := m
		other.Tables = slices.Clone(m.Tables)
		change(&other)
		return other
	}
	execute(t, conn, `CREATE SCHEMA other`)
	for name, c := range map[string]struct {
		m    Manifest
		says string
	}{
		"a table's checksum": {forge(func(m *Manifest) { m.Tables[2].SHA256 = hex.EncodeToString(make([]byte, sha256.Size)) }), "is damaged"},
		"a row too few":      {forge(func(m *Manifest) { m.Tables[2].Rows++ }), "is damaged"},
		"the head":           {forge(func(m *Manifest) { m.Head++ }), "the manifest says"},
		"a table too few":    {forge(func(m *Manifest) { m.Tables = slices.Delete(m.Tables, 2, 3) }), "does not list vault.data_keys"},
		"an unknown column":  {forge(func(m *Manifest) { m.Tables[1].Columns = []string{"name", "wrapped_by", "wrapped", "later"} }), "no column later"},
	} {
		if _, err := Load(t.Context(), conn, from, c.m, nil); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %q", name, err, c.says)
		}
		if n := count(t, conn, `SELECT (SELECT count(*) FROM log.entries) + (SELECT count(*) FROM vault.named_keys) + (SELECT count(*) FROM relay.epochs WHERE epoch > 1)`); n != 0 {
			t.Errorf("%s: got %d rows afterwards, want none", name, n)
		}
	}
	if _, err := Load(t.Context(), conn, from, m, nil); err != nil {
		t.Errorf("the backup itself: got %v, want it restored", err)
	}
}

// An interrupted backup does not have its name, and an existing folder is not overwritten.
func TestFolders(t *testing.T) {
	t.Parallel()
	place := filepath.Join(t.TempDir(), "a", "b")
	f, err := CreateFolder(place)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Put(t.Context(), "x", []byte("y")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(place); err == nil {
		t.Error("got a folder before it was finished, want none")
	}
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(place)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got %v, %v, want a folder that only its owner can read", info, err)
	}
	if _, err := CreateFolder(place); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("an existing folder: got %v, want a refusal", err)
	}
	if _, err := Read(t.Context(), Folder(place)); err == nil || !strings.Contains(err.Error(), "is not a backup") {
		t.Errorf("a folder without a manifest: got %v, want a refusal", err)
	}
	left, _ := fs.Glob(os.DirFS(filepath.Dir(place)), "*unfinished*")
	if err := f.Discard(); err != nil || len(left) > 0 {
		t.Errorf("got %v and %v, want nothing left", err, left)
	}
}
