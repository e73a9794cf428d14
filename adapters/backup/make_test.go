package backup

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// What a migration committed while the backup waited for it is in the backup.
func TestSnapshotIsTakenAfterTheLocks(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	migration, other := connect(t, url), connect(t, url)
	execute(t, migration, `BEGIN; LOCK TABLE relay.epochs IN ACCESS EXCLUSIVE MODE; INSERT INTO vault.named_keys VALUES ('blind', 'key-1', '\x00')`)
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		const waits = `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'relay.epochs'::regclass`
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			var n int
			if err := other.QueryRow(t.Context(), waits).Scan(&n); err != nil || n > 0 {
				break
			}
		}
		_, _ = migration.Exec(t.Context(), `COMMIT`)
	}()
	if _, m := made(t, url, 0); m.Rows("vault.named_keys") != 1 {
		t.Errorf("got %d named keys, want the one that was committed before the locks", m.Rows("vault.named_keys"))
	}
	<-committed
}

// A schema whose backup could not be restored is refused before anything is written.
func TestTooOldForABackup(t *testing.T) {
	t.Parallel()
	to, err := CreateFolder(filepath.Join(t.TempDir(), "backup"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Make(t.Context(), Config{Conn: connect(t, pgtest.New(t)), To: to, Schema: oldestSchema - 1})
	if err == nil || !strings.Contains(err.Error(), "run `cloudbot migrate` first") {
		t.Errorf("got %v, want a refusal that names `cloudbot migrate`", err)
	}
}
