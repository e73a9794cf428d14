package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/projections"
)

func accountsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accounts",
		Short: "List, invite, suspend and resume accounts",
		Long: `For the operator of the server: who has an account, who may open one, and who is
locked out. Works beside a running server and without one, with the server's own
settings (DATABASE_URL or DATA_DIR, and ENCRYPTION_KEY).`,
		Example: "  cloudbot accounts list\n  cloudbot accounts invite ada@example.com",
	}
	cmd.AddCommand(accountsListCmd(), accountsInviteCmd(), accountsSuspendCmd(), accountsResumeCmd())
	return cmd
}

// accountView is an account as the tool shows it.
type accountView struct {
	ID          string     `json:"id"`
	Email       string     `json:"email"` // "" where its data key is gone
	CreatedAt   time.Time  `json:"created_at"`
	State       string     `json:"state"` // active or suspended
	SuspendedAt *time.Time `json:"suspended_at,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Instances   int        `json:"instances"` // that are not over
}

func accountsListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all accounts, oldest first",
		Long:    "Lists all accounts with their e-mail addresses, and how many desktops each has that\nare not terminated.",
		Example: "  cloudbot accounts list\n  cloudbot accounts list --json | jq '.accounts[] | select(.state == \"suspended\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				list, err := o.accounts(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), map[string]any{"accounts": list})
				}
				rows := [][]string{{"ACCOUNT", "E-MAIL", "CREATED", "STATE", "DESKTOPS"}}
				for _, a := range list {
					rows = append(rows, []string{a.ID, clip(a.Email, 40), a.CreatedAt.Format("2006-01-02 15:04"), a.State, fmt.Sprint(a.Instances)})
				}
				return table(cmd.OutOrStdout(), rows)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// accounts reads all accounts, a page at a time.
func (o *operator) accounts(ctx context.Context) ([]accountView, error) {
	const page = 500
	views := []accountView{}
	for after, more := "", true; more; {
		list, err := o.reader.Accounts(ctx, after, page)
		if err != nil {
			return nil, err
		}
		if err := preload(ctx, o.vault, list, func(a projections.Account) string { return a.ID }); err != nil {
			return nil, err
		}
		for _, a := range list {
			view, err := o.accountView(ctx, a)
			if err != nil {
				return nil, err
			}
			views, after = append(views, view), a.ID
		}
		more = len(list) == page
	}
	return views, nil
}

func (o *operator) accountView(ctx context.Context, a projections.Account) (accountView, error) {
	email, err := o.open(ctx, a.ID, commands.EmailLabel, a.Email)
	v := accountView{ID: a.ID, Email: email, CreatedAt: a.CreatedAt.UTC(), State: "active", Instances: a.Instances}
	if !a.Suspended.IsZero() {
		since := a.Suspended.UTC()
		v.State, v.SuspendedAt, v.Reason = "suspended", &since, a.Reason
	}
	return v, err
}

func accountsInviteCmd() *cobra.Command {
	var asJSON bool
	var life time.Duration
	var revoke string
	cmd := &cobra.Command{
		Use:   "invite [EMAIL]",
		Short: "Make an invitation to sign up, and print its code and URL",
		Long: `Makes an invitation for a server with SIGNUP=invite (the default in production). Its
code is good for one account, for a while, and with EMAIL for that address only. The
code is shown once: the log keeps a keyed hash of it. Send the URL, or the code, to
the person you invite; what follows # in the URL is not sent to servers.`,
		Example: `  cloudbot accounts invite ada@example.com
  cloudbot accounts invite --expires 24h          for anybody who has the code
  cloudbot accounts invite --revoke ID            take one back that was not used`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if life < time.Minute || life > 365*24*time.Hour {
				return fmt.Errorf("--expires is %v; give 1m to 8760h", life)
			}
			if revoke != "" && len(args) > 0 {
				return errors.New("--revoke takes no EMAIL")
			}
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				invites := &commands.Invites{Log: o.events, Blind: o.vault.Blind}
				if revoke != "" {
					if err := invites.Revoke(ctx, revoke); err != nil {
						return err
					}
					if asJSON {
						return printJSON(cmd.OutOrStdout(), map[string]string{"revoked": revoke})
					}
					fmt.Fprintln(cmd.OutOrStdout(), "The invitation is revoked.")
					return nil
				}
				made, err := invites.Create(ctx, strings.Join(args, ""), life)
				if err != nil {
					return err
				}
				return o.tellInvitation(cmd, made, asJSON)
			})
		},
	}
	cmd.Flags().DurationVar(&life, "expires", 7*24*time.Hour, "how long it is good")
	cmd.Flags().StringVar(&revoke, "revoke", "", "take back the invitation with this ID")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (o *operator) tellInvitation(cmd *cobra.Command, made commands.Invitation, asJSON bool) error {
	url := o.publicURL() + "/app/signup#invite=" + made.Code
	if asJSON {
		return printJSON(cmd.OutOrStdout(), struct {
			commands.Invitation
			URL string `json:"url"`
		}{made, url})
	}
	whom := "any e-mail address"
	if made.Email != "" {
		whom = made.Email
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "Code:     %s\nURL:      %s\nFor:      %s, once\nExpires:  %s\nID:       %s\n",
		made.Code, url, whom, made.ExpiresAt.UTC().Format("2006-01-02 15:04 UTC"), made.ID)
	if mode := o.cfg.signUpMode(); mode != commands.SignUpInvite {
		fmt.Fprintf(cmd.ErrOrStderr(), "Note: sign-up is %s here, so no code is asked for. SIGNUP=invite asks for one.\n", mode)
	}
	return err
}

// publicURL is where browsers reach the server, as far as that is known without it.
func (o *operator) publicURL() string {
	if o.cfg.PublicURL != "" {
		return o.cfg.PublicURL
	}
	if r, ok := readRunning(o.cfg); ok && r.URL != "" {
		return r.URL
	}
	return "http://127.0.0.1:" + o.cfg.Port
}

func accountsSuspendCmd() *cobra.Command {
	var asJSON bool
	var reason string
	cmd := &cobra.Command{
		Use:   "suspend ACCOUNT",
		Short: "Lock an account: end its sessions and stop its desktops",
		Long: `Locks the account with this id or e-mail address. From there on it cannot log in, its
tokens and tickets are refused, its open connections close, and its running desktops
are stopped; one that is still starting is stopped by the server once it runs. Nothing
is deleted. If it is interrupted, run it again.`,
		Example: "  cloudbot accounts suspend ada@example.com --reason 'unpaid bill'\n  cloudbot accounts suspend 01KAP4S8ZJ3W6V1Y0T9Q5R2N7M",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				id, err := o.account(ctx, args[0])
				if err != nil {
					return err
				}
				c := newSuspensions(o.events, o.pool, o.log)
				if err := c.Suspend(ctx, id, reason); err != nil {
					return err
				}
				if err := o.catchUp(ctx); err != nil {
					return err
				}
				done, err := c.Enforce(ctx, id)
				if err != nil {
					return fmt.Errorf("the account is locked, but not all it has was ended: %w; run this again", err)
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), struct {
						ID    string `json:"id"`
						State string `json:"state"`
						commands.Enforced
					}{id, "suspended", done})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Account %s is suspended: %s ended, %s told to stop.\n", id, plural(done.Sessions, "session"), plural(done.Machines, "desktop"))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, at most 200 bytes; it stands in the log as you write it, and among the account's events")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func accountsResumeCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "resume ACCOUNT",
		Short:   "Let a suspended account log in again",
		Long:    "Ends the suspension of the account with this id or e-mail address. Its owner logs in\nagain; desktops stay stopped until their owner starts them.",
		Example: "  cloudbot accounts resume ada@example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				id, err := o.account(ctx, args[0])
				if err != nil {
					return err
				}
				if err := newSuspensions(o.events, o.pool, o.log).Resume(ctx, id); err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), map[string]string{"id": id, "state": "active"})
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "Account %s can log in again.\n", id)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
