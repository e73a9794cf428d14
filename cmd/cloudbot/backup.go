package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/adapters/backup"
	"github.com/cloudbot-ai/control-plane/adapters/s3"
)

func backupCmd() *cobra.Command {
	var asJSON, verify bool
	cmd := &cobra.Command{
		Use:   "backup FOLDER|s3://BUCKET/PREFIX",
		Short: "Back up the log and the vault",
		Long: `Writes a backup of the log and the vault into a new folder, or under a new prefix of an
S3 bucket, while servers run. It needs no pg_dump. The backup names the key of
ENCRYPTION_KEY that it needs, and does not contain it: keep the key elsewhere.

The backup is finished when this command succeeds. It then reads the whole backup again
and compares all checksums (--verify=false skips that). An interrupted backup has no
manifest.json, and restore refuses it. docs/backup.md says what a backup contains.

For S3, the AWS SDK reads credentials from its usual places, and AWS_REGION.
AWS_ENDPOINT_URL_S3 selects another S3 server.`,
		Example: `  cloudbot backup /var/backups/cloudbot/$(date -u +%Y%m%dT%H%M%SZ)
  cloudbot backup s3://my-backups/cloudbot/$(date -u +%Y%m%dT%H%M%SZ)`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := makeBackup(cmd.Context(), args[0], verify, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), m)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Backup %s: %d events up to position %d, %s, %s compressed.\nIt needs the key %s of ENCRYPTION_KEY, which it does not contain.\n",
				m.ID, m.Positions, m.Head, plural(int(m.Rows("vault.data_keys")), "account key"), size(m.Size()), strings.Join(m.Keys, ", "))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the manifest as JSON")
	cmd.Flags().BoolVar(&verify, "verify", true, "read the backup again and compare its checksums")
	return cmd
}

// place is where a backup is written and read.
type place interface {
	backup.Target
	backup.Source
	finish() error  // makes what was written a backup
	discard() error // removes what was written, if it is not finished
}

// newPlace prepares a place that holds no backup yet.
func newPlace(ctx context.Context, cfg config, name string) (place, error) {
	if !inBucket(name) {
		folder, err := backup.CreateFolder(name)
		if err != nil {
			return nil, err
		}
		return folderPlace{folder, backup.Folder(folder.String())}, nil
	}
	objects, err := openBucket(ctx, cfg, name)
	if err != nil {
		return nil, err
	}
	switch _, err := backup.Read(ctx, objects); {
	case err == nil:
		return nil, fmt.Errorf("%s is a backup already; name a new prefix for each backup", name)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return bucketPlace{objects}, nil
}

// oldPlace returns the place of a finished backup.
func oldPlace(ctx context.Context, cfg config, name string) (backup.Source, error) {
	if inBucket(name) {
		return openBucket(ctx, cfg, name)
	}
	return backup.Folder(name), nil
}

// inBucket reports whether a place is not a folder. "s3:/bucket" is a mistake, and no folder of that name.
func inBucket(name string) bool {
	return strings.Contains(name, "://") || strings.HasPrefix(strings.ToLower(name), "s3:")
}

func openBucket(ctx context.Context, cfg config, name string) (s3.Objects, error) {
	bucket, prefix, err := s3.Parse(name)
	if err != nil {
		return s3.Objects{}, err
	}
	opened, err := s3.New(ctx, s3.Config{Bucket: bucket, Prefix: prefix, Region: cfg.EC2.Region, Endpoint: os.Getenv("AWS_ENDPOINT_URL_S3"), Logger: logger(cfg)})
	return s3.Objects{Bucket: opened}, err
}

type folderPlace struct {
	*backup.NewFolder
	backup.Folder // once it is finished
}

func (f folderPlace) String() string { return f.Folder.String() }
func (f folderPlace) finish() error  { return f.Finish() }
func (f folderPlace) discard() error { return f.Discard() }

type bucketPlace struct{ s3.Objects }

func (bucketPlace) finish() error  { return nil } // the manifest came last
func (bucketPlace) discard() error { return nil } // without a manifest it is not a backup, and the next try replaces it

// makeBackup writes a backup and reports its progress.
func makeBackup(ctx context.Context, name string, verify bool, progress io.Writer) (m backup.Manifest, err error) {
	cfg, err := loadConfig()
	if err != nil {
		return m, err
	}
	to, err := newPlace(ctx, cfg, name)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, to.discard()) }()
	db, err := findDatabase(context.WithoutCancel(ctx), cfg, logger(cfg))
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	found, err := checkDatabase(ctx, cfg, db.url)
	switch {
	case err != nil:
		return m, err
	case found.Version == 0:
		return m, errors.New("the database has no log: is DATABASE_URL the right one?")
	case found.Version > found.Known:
		return m, fmt.Errorf("the database has schema %d, and this program knows only up to %d: back it up with the newer program", found.Version, found.Known)
	}
	conn, err := db.connect(ctx)
	if err != nil {
		return m, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	switch begun, err := unfinished(ctx, conn, db.url, logger(cfg)); {
	case err != nil:
		return m, err
	case begun.Epoch > 0:
		return m, errUnfinished
	}
	m, err = backup.Make(ctx, backup.Config{
		Conn: conn, To: to, Schema: found.Version, CloudBot: version, Environment: cfg.Environment,
		Progress: func(table string, rows, bytes int64) {
			fmt.Fprintf(progress, "%s: %d rows, %s\n", table, rows, size(bytes))
		},
	})
	if err != nil {
		return m, err
	}
	if err := to.finish(); err != nil {
		return m, err
	}
	if m.Positions != m.Head {
		fmt.Fprintf(progress, "WARNING: the log has %d events up to position %d, so some are missing; the backup has what is there\n", m.Positions, m.Head)
	}
	if !verify {
		return m, nil
	}
	read, err := backup.Read(ctx, to)
	if err != nil {
		return m, err
	}
	return m, backup.Verify(ctx, to, read, func(table string, rows int64) {
		fmt.Fprintf(progress, "%s: %d rows verified\n", table, rows)
	})
}

// size returns a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
