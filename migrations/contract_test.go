package migrations_test

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/migrations"
)

// with is this program with one more file, which may be undone.
func with(t *testing.T, file, text string, how migrations.Undo) migrations.Program {
	t.Helper()
	all := realFiles(t)
	all[file] = &fstest.MapFile{Data: []byte(text)}
	var version int64
	_, _ = fmt.Sscanf(file, "%d", &version)
	return migrations.NewProgram(all, 12, map[int64]migrations.Undo{version: how})
}

func realFiles(t *testing.T) fstest.MapFS {
	t.Helper()
	all := fstest.MapFS{}
	names, err := fs.Glob(migrations.Files(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(migrations.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = &fstest.MapFile{Data: text}
	}
	return all
}

// generations are three releases of one change: before it, with the new column, and without the old one.
func generations(t *testing.T) (before, expand, contract migrations.Program) {
	files := realFiles(t)
	add := func(name, text string) {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	snapshot := func(lowest int64, undoable map[int64]migrations.Undo) migrations.Program {
		copied := fstest.MapFS{}
		for name, f := range files {
			copied[name] = f
		}
		return migrations.NewProgram(copied, lowest, undoable)
	}
	add("0015_table.sql", "-- +goose Up\nCREATE TABLE read.invented (old text);\n-- +goose Down\nDROP TABLE read.invented;")
	before = snapshot(15, nil)
	add("0016_expand.sql", "-- +goose Up\nALTER TABLE read.invented ADD COLUMN new text;\n-- +goose Down\nALTER TABLE read.invented DROP COLUMN new;")
	expand = snapshot(16, map[int64]migrations.Undo{16: {}})
	add("0017_contract.sql", "-- +goose Up\nALTER TABLE read.invented DROP COLUMN old;\nINSERT INTO ops.schema_contracts (version, oldest) VALUES (17, 16);\n-- +goose Down\nALTER TABLE read.invented ADD COLUMN old text;\nDELETE FROM ops.schema_contracts WHERE version = 17;")
	return before, expand, snapshot(17, map[int64]migrations.Undo{17: {}})
}

// Each of three releases on each of their schemas: what one no longer supports is refused, in one sentence, by Check
// and by Up. Undoing the contract brings the older release back.
func TestRangeOfSchemas(t *testing.T) {
	t.Parallel()
	before, expand, contract := generations(t)
	programs := []migrations.Program{before, expand, contract}
	u := pgtest.New(t)
	for schema, runs := range [][]bool{{true, false, false}, {true, true, false}, {false, true, true}} {
		if err := programs[schema].Up(t.Context(), u, silent); err != nil {
			t.Fatal(err)
		}
		for i, p := range programs {
			found, err := p.Check(t.Context(), u)
			tooOld := schema == 2 && i == 0
			if (err != nil) != tooOld || tooOld && !strings.Contains(err.Error(), "the schema is version 17 and no longer supports programs that know less than 16, and this one knows 15") {
				t.Errorf("program %d on schema %d: Check got %v", i, schema, err)
			}
			if got := found.Fits() == nil; got != runs[i] {
				t.Errorf("program %d on schema %d: runs %v (%v), want %v", i, schema, got, found.Fits(), runs[i])
			}
			if i > schema && !strings.Contains(fmt.Sprint(found.Fits()), "run `cloudbot migrate`") {
				t.Errorf("program %d on schema %d: got %v, want to migrate", i, schema, found.Fits())
			}
			if tooOld {
				if err := p.Up(t.Context(), u, silent); err == nil || !strings.Contains(err.Error(), "use a newer version") {
					t.Errorf("Up: got %v, want a refusal", err)
				}
			}
		}
	}
	list, found, err := before.Status(t.Context(), u)
	if err != nil || len(list) != 17 || list[16].Oldest != 16 || list[16].Name != "" || found.Oldest != 16 {
		t.Errorf("status of the oldest: got %v, %+v, %v, want the contract of 17", list, found, err)
	}
	if _, _, err := contract.Down(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if found, err := before.Check(t.Context(), u); err != nil || found.Fits() != nil {
		t.Errorf("after undoing the contract: got %v, %v, want the oldest to run", err, found.Fits())
	}
}

// A connected server keeps what it needs: a contract that it does not know is not applied, and what it uses is not
// undone. When it is gone, both happen.
func TestAConnectedServerKeepsWhatItNeeds(t *testing.T) {
	t.Parallel()
	before, expand, contract := generations(t)
	u := pgtest.New(t)
	if err := before.Up(t.Context(), u, silent); err != nil {
		t.Fatal(err)
	}
	old := connect(t, u)
	if _, err := old.Exec(t.Context(), before.Hold()); err != nil {
		t.Fatal(err)
	}
	if err := contract.Up(t.Context(), u, silent); err == nil || !strings.Contains(err.Error(), "migration 17 (contract) takes away what a connected server needs, which knows schema 15 and not 16") || newest(t, u) != 15 {
		t.Errorf("contract beside an older server: got %v and schema %d, want a refusal and 15", err, newest(t, u))
	}
	if err := expand.Up(t.Context(), u, silent); err != nil {
		t.Errorf("expand beside an older server: %v", err)
	}
	if _, _, err := expand.Down(t.Context(), u); err != nil || newest(t, u) != 15 {
		t.Errorf("undo of what only newer servers need: got %v and schema %d, want 15", err, newest(t, u))
	}
	old.Close(t.Context())
	if err := contract.Up(t.Context(), u, silent); err != nil {
		t.Errorf("contract after the older server has gone: %v", err)
	}
	server := connect(t, u)
	if _, err := server.Exec(t.Context(), contract.Hold()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := contract.Down(t.Context(), u); err == nil || !strings.Contains(err.Error(), "a connected server needs schema 17") || newest(t, u) != 17 {
		t.Errorf("undo beside a server that needs it: got %v and schema %d, want a refusal and 17", err, newest(t, u))
	}
}

// takes finds statements that older programs may not survive.
var takes = regexp.MustCompile(`(?i)\bDROP (TABLE|COLUMN|SCHEMA|VIEW|FUNCTION|TYPE|TRIGGER)\b|\bRENAME\b|\bALTER COLUMN \S+ (SET DATA )?TYPE\b|\bSET NOT NULL\b|\bTRUNCATE\b|\bDELETE FROM\b|\bADD CONSTRAINT\b|\bREVOKE\b|\bADD COLUMN [^,;]* NOT NULL(?:[^,;]*)`)

// broken returns what is wrong with a set of migrations: who takes something away must declare it, for itself, and the
// declared version never decreases nor passes the file's own.
func broken(files fs.FS) (faults []string) {
	names, _ := fs.Glob(files, "*.sql")
	contracts, err := migrations.NewProgram(files, 0, nil).Contracts()
	if err != nil {
		return []string{err.Error()}
	}
	last := int64(0)
	for _, name := range names {
		var version int64
		_, _ = fmt.Sscanf(name, "%d", &version)
		text, _ := fs.ReadFile(files, name)
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		up = regexp.MustCompile(`--[^\n]*`).ReplaceAllString(up, "")
		var takesAway []string
		for _, found := range takes.FindAllString(up, -1) {
			if !strings.HasPrefix(strings.ToUpper(found), "ADD COLUMN") || !strings.Contains(strings.ToUpper(found), "DEFAULT") {
				takesAway = append(takesAway, found)
			}
		}
		oldest := contracts[name]
		switch {
		case version < 12: // before contracts
			continue
		case len(takesAway) > 0 && oldest == 0:
			faults = append(faults, fmt.Sprintf("%s has %q and declares no contract", name, takesAway))
		case oldest > 0 && !strings.Contains(up, fmt.Sprintf("VALUES (%d, %d);", version, oldest)):
			faults = append(faults, name+" declares another migration's contract")
		case oldest > version || oldest > 0 && oldest < last:
			faults = append(faults, fmt.Sprintf("%s declares contract %d, want %d to %d", name, oldest, last, version))
		case strings.Contains(up, "ops.schema_contracts (") && oldest == 0 && version != 12:
			faults = append(faults, name+" declares a contract that cannot be read")
		}
		last = max(last, oldest)
	}
	return faults
}

// The rule of CONTRIBUTING holds for the real files, and refuses each of these.
func TestWhoTakesAwayDeclaresIt(t *testing.T) {
	t.Parallel()
	if faults := broken(migrations.Files()); len(faults) > 0 {
		t.Errorf("got %q, want none", faults)
	}
	const declare = "INSERT INTO ops.schema_contracts (version, oldest) VALUES "
	for text, want := range map[string]int{
		"ALTER TABLE read.instances DROP COLUMN versions;":                               1,
		"ALTER TABLE read.instances RENAME COLUMN versions TO v;":                        1,
		"ALTER TABLE read.instances ALTER COLUMN name SET NOT NULL;":                     1,
		"ALTER TABLE read.instances ADD COLUMN x text NOT NULL;":                         1,
		"ALTER TABLE read.instances ADD COLUMN x text NOT NULL DEFAULT '';":              0,
		"CREATE TABLE read.x (a text NOT NULL); -- DROP TABLE in a comment":              0,
		"DROP TABLE ops.web_files;\n" + declare + "(15, 12);":                            0,
		"DROP TABLE ops.web_files;\n" + declare + "(15, 16);":                            1,
		"DROP TABLE ops.web_files;\n" + declare + "(12, 12);":                            1,
		"insert into ops.schema_contracts (version, oldest) select 15, 12; SELECT 1;":    1,
		"DROP TABLE ops.web_files;\n" + strings.ToLower(declare) + "(15, 12); SELECT 1;": 1,
	} {
		files := realFiles(t)
		files["0015_x.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + text)}
		if faults := broken(files); len(faults) != want {
			t.Errorf("%s: got %q, want %d", text, faults, want)
		}
	}
	files := realFiles(t)
	files["0015_x.sql"] = &fstest.MapFile{Data: []byte(declare + "(15, 15);")}
	files["0016_x.sql"] = &fstest.MapFile{Data: []byte(declare + "(16, 12);")}
	if faults := broken(files); len(faults) != 1 {
		t.Errorf("a contract that decreases: got %q, want one fault", faults)
	}
}
