package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/commands"
)

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
				return o.printInvitation(cmd, made, asJSON)
			})
		},
	}
	cmd.Flags().DurationVar(&life, "expires", 7*24*time.Hour, "how long it is good")
	cmd.Flags().StringVar(&revoke, "revoke", "", "take back the invitation with this ID")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (o *operator) printInvitation(cmd *cobra.Command, made commands.Invitation, asJSON bool) error {
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
