package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/adapters/backup"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/restore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// restoreOptions are the flags of `cloudbot restore`.
type restoreOptions struct {
	from    string // "": see to
	to      string // the time to which the database was restored by other means
	replace bool
}

func restoreCmd() *cobra.Command {
	var o restoreOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore FOLDER|s3://BUCKET/PREFIX",
		Short: "Restore a backup into an empty database",
		Long: `Restores a backup into an empty database. All servers must be stopped, and ENCRYPTION_KEY
must contain the key that the backup needs. The command first reads the whole backup and
compares all checksums. Then it loads the backup in one transaction, and compares what
the database returns with the backup. If it is interrupted, run it again.

What happened after the backup is lost. All sessions and API tokens end, so all users log in
again and make new tokens, and machines whose enrolment the backup does not know cannot connect. No machine is
terminated: after the server's start, ` + "`cloudbot strangers list`" + ` shows the machines that the
restored log does not know. docs/backup.md describes all effects.

With an own database, create a new empty one and set DATABASE_URL to it. With the
private database under DATA_DIR, --replace moves the old one aside first.

--restored-to is for a database that was restored to an earlier time by other means, for
example by your provider. It takes no backup, and has the same effects on sessions and
machines. Use it before any server starts.`,
		Example: `  cloudbot restore /var/backups/cloudbot/20261128T020000Z
  cloudbot restore --replace s3://my-backups/cloudbot/20261128T020000Z
  cloudbot restore --restored-to 2026-11-28T02:00:00Z`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.from = args[0]
			}
			switch {
			case o.from == "" && o.to == "":
				return errors.New("name the folder or the S3 prefix of the backup; `cloudbot restore --help` shows examples")
			case o.to != "" && (o.from != "" || o.replace):
				return errors.New("--restored-to needs neither a backup nor --replace: the database already has its data")
			}
			done, err := o.run(cmd.Context(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), done)
			}
			fmt.Fprintf(cmd.OutOrStdout(), `Restored: the log ends at position %d, in epoch %d. Events after %s are lost.
%s, %s and %s ended.
Now start the server. Then run "cloudbot strangers list": it shows the machines that the log does not know.
`, done.Position, done.Epoch, done.MadeAt.UTC().Format(time.RFC3339), plural(done.Sessions, "session"), plural(done.Tokens, "API token"), plural(done.Enrolments, "unused enrolment"))
			return nil
		},
	}
	cmd.Flags().StringVar(&o.to, "restored-to", "", "the database was restored to this `time` by other means (RFC 3339)")
	cmd.Flags().BoolVar(&o.replace, "replace", false, "move the private database under DATA_DIR aside first")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// run restores and returns what the log now remembers of it.
func (o restoreOptions) run(ctx context.Context, progress io.Writer) (done restore.Finished, err error) {
	cfg, err := loadConfig()
	if err != nil {
		return done, err
	}
	if r, ok := beside(ctx, cfg); ok {
		return done, fmt.Errorf("CloudBot runs on this data folder, at %s (process %d); stop it first", r.URL, r.PID)
	}
	var from backup.Source
	var m backup.Manifest
	if o.to != "" {
		if m.MadeAt, err = time.Parse(time.RFC3339, o.to); err != nil || m.MadeAt.After(time.Now()) {
			return done, fmt.Errorf("%q is not a past time; use RFC 3339, for example 2026-11-28T02:00:00Z", o.to)
		}
	} else if from, m, err = o.open(ctx, cfg, progress); err != nil {
		return done, err
	}
	db, conn, err := o.database(ctx, cfg, progress)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	defer conn.Close(context.WithoutCancel(ctx))
	loaded, err := o.load(ctx, cfg, db, conn, from, m, progress)
	if err != nil {
		return done, err
	}
	if o.to != "" {
		// The log may end before the stated time, and a machine launched in between is one that it does not know.
		last, err := backup.LastEvent(ctx, conn, loaded.Head)
		if err != nil {
			return done, err
		}
		if !last.IsZero() && last.Before(m.MadeAt) {
			m.MadeAt = last
		}
	}
	conn.Close(ctx) // the role may have few connections
	done = restore.Finished{Epoch: loaded.Epoch, Backup: loaded.Backup, Position: loaded.Head, MadeAt: m.MadeAt.UTC()}
	fmt.Fprintln(progress, "building the read models and ending sessions …")
	return finishRestore(ctx, cfg, db.url, done, progress)
}

// open opens a backup and checks all of it, before anything is written.
func (o restoreOptions) open(ctx context.Context, cfg config, progress io.Writer) (backup.Source, backup.Manifest, error) {
	from, err := oldPlace(ctx, cfg, o.from)
	if err != nil {
		return nil, backup.Manifest{}, err
	}
	m, err := backup.Read(ctx, from)
	if err != nil {
		return nil, m, err
	}
	keys, err := loadSecrets(cfg)
	if err != nil {
		return nil, m, err
	}
	for _, id := range m.Keys {
		if !keys.ring.Has(id) {
			return nil, m, fmt.Errorf("the backup needs the key %s, and ENCRYPTION_KEY has %s: set ENCRYPTION_KEY to the key of the server that made the backup", id, strings.Join(keys.ring.IDs(), ", "))
		}
	}
	err = backup.Verify(ctx, from, m, func(table string, rows int64) { fmt.Fprintf(progress, "%s: %d rows verified\n", table, rows) })
	return from, m, err
}

// database opens the database to restore into, without a server on it, and brings it to this version's schema.
func (o restoreOptions) database(ctx context.Context, cfg config, progress io.Writer) (db database, conn *pgx.Conn, err error) {
	if o.replace && cfg.DatabaseURL != "" {
		return db, nil, errors.New("--replace is for the private database under DATA_DIR; create a new empty database, and set DATABASE_URL to it")
	}
	log := logger(cfg)
	base := context.WithoutCancel(ctx)
	if db, err = openDatabase(base, cfg, log); err != nil {
		return db, nil, err
	}
	defer func() {
		if err != nil {
			if conn != nil {
				conn.Close(base)
			}
			err = errors.Join(err, db.close())
		}
	}()
	if conn, err = o.connect(ctx, cfg, db); err != nil {
		return db, conn, err
	}
	if used := backup.Used(ctx, conn); o.replace && errors.As(used, new(*backup.InUse)) {
		conn.Close(ctx)
		if err := db.close(); err != nil {
			return db, nil, err
		}
		aside, err := moveAside(cfg.dir("postgres"))
		if err != nil {
			return db, nil, err
		}
		fmt.Fprintf(progress, "the old database is now %s; remove it when you no longer need it\n", aside)
		if db, err = openDatabase(base, cfg, log); err != nil {
			return db, nil, err
		}
		if conn, err = o.connect(ctx, cfg, db); err != nil {
			return db, conn, err
		}
	}
	return db, conn, db.migrate(ctx, cfg, log)
}

// connect connects to the database, and refuses one that a server uses.
func (o restoreOptions) connect(ctx context.Context, cfg config, db database) (*pgx.Conn, error) {
	if _, err := checkDatabase(ctx, cfg, db.url); err != nil {
		return nil, err
	}
	conn, err := db.connect(ctx)
	if err != nil {
		return nil, err
	}
	servers, err := backup.Servers(ctx, conn)
	if err == nil && len(servers) > 0 {
		err = fmt.Errorf("CloudBot uses the database (%s); stop all servers and tools first", strings.Join(servers, ", "))
	}
	return conn, err
}

// load loads the backup, unless an earlier call did and was interrupted later.
func (o restoreOptions) load(ctx context.Context, cfg config, db database, conn *pgx.Conn, from backup.Source, m backup.Manifest, progress io.Writer) (backup.Loaded, error) {
	begun, err := unfinished(ctx, conn, db.url, logger(cfg))
	switch {
	case err != nil:
		return begun, err
	case begun.Epoch > 0 && from != nil && begun.Backup != m.ID:
		return begun, errors.New("the restore of another backup into this database was interrupted; create a new empty database")
	case begun.Epoch > 0 && from == nil && begun.Backup != "":
		return begun, fmt.Errorf("the restore of backup %s into this database was interrupted; run the same command again to finish it", begun.Backup)
	case begun.Epoch > 0:
		return begun, nil
	case from == nil:
		marked, err := backup.Mark(ctx, conn)
		if err != nil {
			return marked, err
		}
		return marked, alone(ctx, conn)
	}
	found, err := checkDatabase(ctx, cfg, db.url)
	if err != nil {
		return begun, err
	}
	if err := m.Fits(found.Known); err != nil {
		return begun, err
	}
	loaded, err := backup.Load(ctx, conn, from, m, func(table string, rows int64) { fmt.Fprintf(progress, "%s: %d rows restored\n", table, rows) })
	if used := (*backup.InUse)(nil); errors.As(err, &used) {
		if cfg.DatabaseURL == "" {
			return loaded, fmt.Errorf("%w; --replace moves it aside", used)
		}
		return loaded, fmt.Errorf("%w; create a new empty database and set DATABASE_URL to it, or rename the old one (ALTER DATABASE cloudbot RENAME TO cloudbot_old) and create it again", used)
	}
	if err != nil {
		return loaded, err
	}
	return loaded, alone(ctx, conn)
}

// alone refuses to go on beside a server that started meanwhile: it did not see that a restore had begun. The server
// process of a connection that this program has closed ends a little later, so alone looks for up to 5 s.
func alone(ctx context.Context, conn *pgx.Conn) error {
	for try := 1; ; try++ {
		servers, err := backup.Servers(ctx, conn)
		switch {
		case err != nil || len(servers) == 0:
			return err
		case try == 50:
			return fmt.Errorf("CloudBot (%s) started on the database while it was restored; stop it, then run the same command again", strings.Join(servers, ", "))
		}
		if err := retry.Sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// unfinished returns the restore that was loaded but not finished; the zero value if there is none.
func unfinished(ctx context.Context, conn backup.Querier, url string, log *slog.Logger) (backup.Loaded, error) {
	begun, err := backup.Begun(ctx, conn)
	if err != nil || begun.Epoch == 0 {
		return backup.Loaded{}, err
	}
	store, err := postgres.Open(ctx, postgres.Config{URL: url, Logger: log})
	if err != nil {
		return backup.Loaded{}, err
	}
	defer store.Close()
	err = clearFinished(ctx, store, &begun)
	return begun, err
}

// clearFinished clears begun if its restore was finished.
func clearFinished(ctx context.Context, store *postgres.Store, begun *backup.Loaded) error {
	last, err := commands.Log{Store: store}.Restores(ctx)
	if err == nil && last.Epoch >= begun.Epoch {
		*begun = backup.Loaded{}
	}
	return err
}

var errUnfinished = errors.New("the restore of this database was interrupted; run the same `cloudbot restore` command again to finish it")

// refuseUnfinished refuses to use a log whose restore was interrupted: sessions of before would still be valid, and the
// log does not know yet which time it has lost.
func refuseUnfinished(ctx context.Context, pool backup.Querier, store *postgres.Store) error {
	begun, err := backup.Begun(ctx, pool)
	if err == nil && begun.Epoch > 0 {
		err = clearFinished(ctx, store, &begun)
	}
	if err == nil && begun.Epoch > 0 {
		err = errUnfinished
	}
	return err
}

// finishRestore ends what was issued before the restore, and records the restore in the log.
func finishRestore(ctx context.Context, cfg config, url string, done restore.Finished, progress io.Writer) (restore.Finished, error) {
	log := logger(cfg)
	pool, err := postgres.OpenPool(ctx, url, log)
	if err != nil {
		return done, err
	}
	defer pool.Close()
	store, err := postgres.Open(ctx, postgres.Config{Pool: pool, Logger: log})
	if err != nil {
		return done, err
	}
	defer store.Close()
	err = equip(ctx, pool.Pool, store, func(ctx context.Context, op *operator) error {
		r := &commands.Restore{Log: op.events, Sessions: op.reader.OpenSessions, Accounts: op.reader.EveryAccountID, Live: op.reader.Live}
		finished, damaged, err := r.Finish(ctx, restore.Finish(done))
		if damaged > 0 {
			fmt.Fprintf(progress, "WARNING: %s cannot be read, and cannot be used until repaired\n", plural(damaged, "stream"))
		}
		done = restore.Finished(finished)
		return err
	})
	return done, err
}

// moveAside renames the folder of the private database, and the file that names its place if it is elsewhere.
func moveAside(dir string) (string, error) {
	aside := dir + ".before-restore-" + time.Now().UTC().Format("20060102T150405Z")
	moved := false
	for _, end := range []string{"", ".elsewhere"} {
		err := os.Rename(dir+end, aside+end)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		moved = moved || err == nil
	}
	if !moved {
		return "", fmt.Errorf("%s does not exist", dir)
	}
	return aside, nil
}
