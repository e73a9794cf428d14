package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/cloudbot-ai/control-plane/adapters/original"
	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// importRun is one run of `cloudbot import`.
type importRun struct {
	*commands.Import
	opt       importOptions
	progress  io.Writer
	read      int               // accounts
	addresses map[string]string // the account there by its address in our spelling
	report    importReport
}

// importReport is the result of a run.
type importReport struct {
	DryRun        bool            `json:"dry_run"`
	Accounts      tally           `json:"accounts"`
	Keys          tally           `json:"api_keys"`
	Desktops      tally           `json:"desktops"`
	Terminated    int             `json:"terminated_desktops"` // left out
	Subscriptions int             `json:"subscriptions"`       // left out: docs/billing.md says what to do with them
	KeysLeft      int             `json:"api_keys_left_out"`   // by --without-keys
	Problems      []importProblem `json:"problems"`
}

// tally counts rows by what became of them.
type tally struct {
	Added       int `json:"added"`
	Updated     int `json:"updated"`
	Unchanged   int `json:"unchanged"`
	Kept        int `json:"kept"`
	NotImported int `json:"not_imported"`
}

func (t *tally) count(f commands.Fate) {
	switch f {
	case commands.Added:
		t.Added++
	case commands.Updated:
		t.Updated++
	case commands.Unchanged:
		t.Unchanged++
	case commands.Kept:
		t.Kept++
	}
}

// importProblem is a row that could not be imported.
type importProblem struct {
	Kind string `json:"kind"` // account, API key or desktop
	ID   string `json:"id"`   // there
	Why  string `json:"why"`
}

func newImport(ctx context.Context, o *operator, opt importOptions, progress io.Writer) (*importRun, error) {
	r := &importRun{
		Import: &commands.Import{
			Log: o.events, Vault: o.vault, Blind: o.vault.Blind, Outdated: newPasswords(o.vault).Outdated, Known: o.reader.InstanceOf, Dry: opt.dry,
		},
		opt: opt, progress: progress, addresses: map[string]string{}, report: importReport{DryRun: opt.dry, Problems: []importProblem{}},
	}
	if o.cfg.LocalDevMode {
		return r, nil
	}
	cloud, err := o.inventory(ctx)
	r.Cloud = cloud
	return r, err
}

// statuses are those of the original's instances. What a machine really does, EC2 knows.
var statuses = []string{"launching", "running", "stopping", "stopped"}

// account imports one account with what belongs to it. Only an error that would also stop the next account is returned;
// the others are rows of the report.
func (r *importRun) account(ctx context.Context, a original.Account) error {
	if r.read++; r.read%500 == 0 {
		fmt.Fprintf(r.progress, "%d accounts read\n", r.read)
	}
	r.report.Subscriptions += a.Subscriptions
	id, err := r.row(&r.report.Accounts, "account", a.ID, func() (string, commands.Fate, error) {
		hash, err := secrets.OriginalHash(a.Hash)
		if err != nil {
			return "", "", commands.Unfit(err.Error())
		}
		email, err := commands.NormalEmail(a.Email)
		if err != nil {
			return "", "", commands.Unfit("its e-mail address is not valid here")
		}
		if first, twice := r.addresses[email]; twice {
			return "", "", commands.Unfit("its e-mail address is that of account " + first + " in another spelling")
		}
		r.addresses[email] = a.ID
		return r.Account(ctx, commands.ForeignAccount{ID: a.ID, Email: a.Email, Hash: hash, At: a.CreatedAt})
	})
	if err != nil {
		return err
	}
	for _, k := range a.Keys {
		if r.opt.withoutKeys {
			r.report.KeysLeft++
			continue
		}
		if _, err := r.row(&r.report.Keys, "API key", k.ID, func() (string, commands.Fate, error) {
			if id == "" {
				return "", "", errNoAccount
			}
			if k.Err != nil {
				return "", "", commands.Unfit(k.Err.Error())
			}
			fate, err := r.Key(ctx, id, k.Provider, k.Plain)
			return "", fate, err
		}); err != nil {
			return err
		}
	}
	for _, i := range a.Instances {
		if i.Status == "terminated" {
			r.report.Terminated++
			continue
		}
		if _, err := r.row(&r.report.Desktops, "desktop", i.ID, func() (string, commands.Fate, error) {
			switch {
			case id == "":
				return "", "", errNoAccount
			case !slices.Contains(statuses, i.Status):
				return "", "", commands.Unfit(fmt.Sprintf("its status %q is unknown", clip(i.Status, 20)))
			case r.Cloud == nil:
				return "", "", errLocal
			}
			return r.Machine(ctx, id, commands.ForeignMachine{ID: i.ID, Name: i.Name, Machine: i.Machine, At: i.CreatedAt})
		}); err != nil {
			return err
		}
	}
	return nil
}

const (
	errNoAccount commands.Unfit = "its account was not imported"
	errLocal     commands.Unfit = "this server makes desktops on its own computer (LOCAL_DEV_MODE=true) and cannot manage a machine on EC2"
)

// row counts what became of a row. It returns an error only if the row is not the reason.
func (r *importRun) row(t *tally, kind, id string, do func() (string, commands.Fate, error)) (imported string, err error) {
	imported, fate, err := do()
	var unfit commands.Unfit
	var refused *domain.Error
	why := ""
	switch {
	case err == nil:
		t.count(fate)
		return imported, nil
	case errors.As(err, &unfit):
		why = string(unfit)
	case errors.As(err, &refused) && refused.Kind != domain.Unavailable:
		why = refused.Msg
	case errors.Is(err, eventstore.ErrDamaged):
		why = "its events here cannot be read"
	default:
		return "", fmt.Errorf("%s %s: %w", kind, id, err)
	}
	t.NotImported++
	r.report.Problems = append(r.report.Problems, importProblem{kind, id, why})
	return "", nil
}

// print prints the report. Its error says that some rows could not be imported.
func (r *importRun) print(w io.Writer, asJSON bool) error {
	if asJSON {
		if err := printJSON(w, r.report); err != nil {
			return err
		}
	} else if err := r.report.write(w); err != nil {
		return err
	}
	if n := len(r.report.Problems); n > 0 {
		return exitError{2, fmt.Errorf("%s not imported; see the reasons above", plural(n, "row"))}
	}
	return nil
}

func (p importReport) write(w io.Writer) error {
	rows := [][]string{{"", "ADDED", "UPDATED", "UNCHANGED", "KEPT", "NOT IMPORTED"}}
	for _, t := range []struct {
		name string
		tally
	}{{"accounts", p.Accounts}, {"API keys", p.Keys}, {"desktops", p.Desktops}} {
		row := []string{t.name}
		for _, n := range []int{t.Added, t.Updated, t.Unchanged, t.Kept, t.NotImported} {
			row = append(row, strconv.Itoa(n))
		}
		rows = append(rows, row)
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nLeft out: %s, %s, all sessions.\n", plural(p.Terminated, "terminated desktop"), plural(p.Subscriptions, "subscription"))
	if p.KeysLeft > 0 {
		fmt.Fprintf(w, "Left out by --without-keys: %s.\n", plural(p.KeysLeft, "API key"))
	}
	if p.Desktops.Added > 0 {
		fmt.Fprintln(w, "Desktops have no guest, so no screen and no chat. Their owners can stop, start and terminate them.")
	}
	if p.DryRun {
		fmt.Fprintln(w, "Nothing was changed: this was a dry run.")
	}
	if len(p.Problems) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	rows = [][]string{{"NOT IMPORTED", "ID THERE", "WHY"}}
	for _, one := range p.Problems {
		rows = append(rows, []string{one.Kind, one.ID, one.Why})
	}
	return table(w, rows)
}
