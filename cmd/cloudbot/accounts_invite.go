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
		Short: "Create an invitation to sign up, and print its code and URL",
		Long: `Creates an invitation for a server with SIGNUP=invite (the default in production). Its
code works for one account until it expires, and with EMAIL only for that address. The
code is shown only once, because the log stores a keyed hash of it. Send the URL or the
code to the person you invite. Browsers do not send the part of the URL after #.`,
		Example: `  cloudbot accounts invite ada@example.com
  cloudbot accounts invite --expires 24h          for anyone who has the code
  cloudbot accounts invite --revoke ID            revoke one that was not used`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if life < time.Minute || life > 365*24*time.Hour {
				return fmt.Errorf("--expires is %v; use 1m to 8760h", life)
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
	cmd.Flags().DurationVar(&life, "expires", 7*24*time.Hour, "how long the invitation is valid")
	cmd.Flags().StringVar(&revoke, "revoke", "", "revoke the invitation with this ID")
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
		fmt.Fprintf(cmd.ErrOrStderr(), "Note: sign-up is %s on this server, so no code is needed. Set SIGNUP=invite to require one.\n", mode)
	}
	return err
}
