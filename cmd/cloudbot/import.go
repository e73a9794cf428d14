package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/adapters/original"
)

// importOptions are the command's flags.
type importOptions struct {
	from, fromFile, keyFile  string
	dry, asJSON, withoutKeys bool
}

func importCmd() *cobra.Command {
	var opt importOptions
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Bring over accounts, API keys and desktops of the original control plane",
		Long: `Reads the database of the original control plane (Python) and adds its accounts, API
keys and desktops to this server's log. The original's database is only read. The command
works beside a running server or without one, with the server's settings.

  Accounts  keep their password. The first log-in stores a new hash of it.
  API keys  are decrypted with the original's ENCRYPTION_KEY and stored under this server's.
  Desktops  are taken over with their machines on EC2, if those run or are stopped. They have
            no guest, so no screen and no chat: their owners can stop, start and terminate them.

Run it as often as you like: it adds what is new, updates what has changed in the original,
and keeps what an account's owner has changed here. Sessions, subscriptions and terminated
desktops are not imported. docs/switching.md lists the steps of a move.

No secret may be an argument, because other users of this computer can read arguments. Give
the database's URL without its password and set PGPASSWORD (or use ~/.pgpass), or set
ORIGINAL_DATABASE_URL, or use --from-file. Set ORIGINAL_ENCRYPTION_KEY to the original's
ENCRYPTION_KEY, or use --encryption-key-file.

Exit codes: 0 everything was imported, 1 the import stopped, 2 some rows could not be
imported; the command lists each with its ID and the reason.`,
		Example: `  cloudbot import --from postgres://user@db.example.com/original --dry-run
  ORIGINAL_DATABASE_URL="$OLD_URL" ORIGINAL_ENCRYPTION_KEY="$OLD_KEY" cloudbot import
  cloudbot import --from-file old.url --encryption-key-file old.key --json | jq .problems`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			databaseURL, key, err := opt.source()
			if err != nil {
				return err
			}
			return operate(cmd.Context(), func(ctx context.Context, o *operator) (err error) {
				from, err := original.Open(ctx, databaseURL, key)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, from.Close()) }()
				if !opt.withoutKeys {
					if err := from.CheckKey(ctx); errors.Is(err, original.ErrKey) {
						return errors.New("none of the original's API keys opens with this ENCRYPTION_KEY, so nothing was imported. Set ORIGINAL_ENCRYPTION_KEY to the original's, exactly as it was set there, or import --without-keys")
					} else if err != nil {
						return err
					}
				}
				r, err := newImport(ctx, o, opt, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				stopped := from.Each(ctx, func(a original.Account) error { return r.account(ctx, a) })
				if stopped != nil {
					return fmt.Errorf("import stopped after %s; run it again to continue: %w", plural(r.read, "account"), stopped)
				}
				return r.print(cmd.OutOrStdout(), opt.asJSON)
			})
		},
	}
	cmd.Flags().StringVar(&opt.from, "from", "", "URL of the original's database, without a password")
	cmd.Flags().StringVar(&opt.fromFile, "from-file", "", "file with that URL, which may contain the password")
	cmd.Flags().StringVar(&opt.keyFile, "encryption-key-file", "", "file with the original's ENCRYPTION_KEY")
	cmd.Flags().BoolVar(&opt.withoutKeys, "without-keys", false, "leave the API keys out")
	cmd.Flags().BoolVar(&opt.dry, "dry-run", false, "show what would be done, change nothing")
	cmd.Flags().BoolVar(&opt.asJSON, "json", false, "print JSON")
	return cmd
}

// source returns the database's URL and the encryption key. Its errors contain neither.
func (o importOptions) source() (databaseURL, key string, err error) {
	if u, err := url.Parse(o.from); o.from != "" && (err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "", "", errors.New("--from is not the URL of a database; use postgres://user@host:5432/database")
	} else if _, with := u.User.Password(); with || u != nil && u.Query().Has("password") {
		return "", "", errors.New("--from contains a password, which other users of this computer can read; leave it out and set PGPASSWORD, or set ORIGINAL_DATABASE_URL instead of --from")
	}
	given := 0
	for _, source := range []string{o.from, o.fromFile, os.Getenv("ORIGINAL_DATABASE_URL")} {
		if source != "" {
			given++
		}
	}
	if given != 1 {
		return "", "", errors.New("name the original's database once: with --from, --from-file or ORIGINAL_DATABASE_URL")
	}
	databaseURL = cmp.Or(o.from, os.Getenv("ORIGINAL_DATABASE_URL"))
	if o.fromFile != "" {
		if databaseURL, err = secretIn("--from-file", o.fromFile); err != nil {
			return "", "", err
		}
	}
	key = os.Getenv("ORIGINAL_ENCRYPTION_KEY")
	switch {
	case o.keyFile != "" && key != "":
		return "", "", errors.New("--encryption-key-file and ORIGINAL_ENCRYPTION_KEY are both set; keep one")
	case o.keyFile != "":
		if key, err = secretIn("--encryption-key-file", o.keyFile); err != nil {
			return "", "", err
		}
	case key == "" && !o.withoutKeys:
		return "", "", errors.New("the original's ENCRYPTION_KEY is missing; set ORIGINAL_ENCRYPTION_KEY, use --encryption-key-file, or import --without-keys")
	}
	return databaseURL, key, nil
}

func secretIn(flag, path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) == 0 {
		return "", fmt.Errorf("%s: %s is empty", flag, path)
	}
	return string(text), nil
}
