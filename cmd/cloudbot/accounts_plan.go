package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// planView is an account's plan as the command shows it.
type planView struct {
	ID           string     `json:"id"`
	Plan         string     `json:"plan"`  // "": none
	Level        string     `json:"level"` // none, due or full
	Desktops     int        `json:"desktops"`
	Used         int        `json:"used_desktops"`
	StopAt       *time.Time `json:"stop_at,omitempty"`
	Granted      string     `json:"granted,omitempty"`
	GrantedUntil *time.Time `json:"granted_until,omitempty"`
	Subscription string     `json:"subscription,omitempty"`
	Status       string     `json:"subscription_status,omitempty"`
	Customer     bool       `json:"customer"`
	Required     bool       `json:"plans_required"`
}

func accountsPlanCmd() *cobra.Command {
	var asJSON, withdraw bool
	var until, reason string
	cmd := &cobra.Command{
		Use:   "plan ACCOUNT [starter|pro|enterprise]",
		Short: "Show an account's plan, give it one, or withdraw that",
		Long: `Without a plan, shows what the account with this ID or e-mail address has. With one, gives
it the plan without a payment, until --until or until it is withdrawn. A granted plan
counts beside a subscription; the larger one applies. It replaces one that was granted
before. --withdraw ends it: running desktops that nothing else allows stop an hour later.
Nothing is deleted. Plans count only on a server with Stripe's keys (docs/billing.md).`,
		Example: `  cloudbot accounts plan ada@example.com
  cloudbot accounts plan ada@example.com pro --until 2027-01-31T00:00:00Z --reason 'friend of the house'
  cloudbot accounts plan ada@example.com pro --until 720h
  cloudbot accounts plan ada@example.com --withdraw`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			plan := billing.Plan("")
			if len(args) > 1 {
				plan = billing.Plan(strings.ToLower(args[1]))
			}
			switch {
			case withdraw && plan != "":
				return errors.New("--withdraw takes no plan")
			case plan == "" && (until != "" || reason != ""):
				return errors.New("--until and --reason need a plan")
			}
			end, err := parseUntil(until, time.Now())
			if err != nil {
				return err
			}
			return operate(cmd.Context(), func(ctx context.Context, o *operator) error {
				id, err := o.account(ctx, args[0])
				if err != nil {
					return err
				}
				plans := newPlans(o.events, o.reader, o.log)
				switch {
				case withdraw:
					_, err = plans.Withdraw(ctx, id)
				case plan != "":
					_, err = plans.Grant(ctx, id, plan, end, reason)
				}
				if err != nil {
					return err
				}
				now, err := o.events.Overview(ctx, id)
				if err != nil {
					return err
				}
				v := viewPlan(id, now)
				if asJSON {
					return printJSON(cmd.OutOrStdout(), v)
				}
				return v.print(cmd.OutOrStdout(), now)
			})
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "when the granted plan ends: a time (2027-01-31T00:00:00Z) or how long from now (720h); default: never")
	cmd.Flags().StringVar(&reason, "reason", "", "why, at most 200 bytes; stored in the log without encryption and shown in the account's history")
	cmd.Flags().BoolVar(&withdraw, "withdraw", false, "end the granted plan")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// parseUntil returns the time that a text names; the zero time for "".
func parseUntil(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UTC(), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return time.Time{}, fmt.Errorf("%q is not a time; use RFC 3339 (2027-01-31T00:00:00Z) or a duration (720h)", text)
	}
	return now.Add(d).UTC().Truncate(time.Second), nil
}

func viewPlan(id string, now commands.Overview) planView {
	a := now.Access
	v := planView{ID: id, Level: string(a.Level), Desktops: a.Desktops, Used: now.Held, Customer: now.Customer, Required: now.Billing}
	if a.Level != billing.None {
		v.Plan = string(a.Plan)
	}
	if !now.StopAt.IsZero() {
		at := now.StopAt.UTC()
		v.StopAt = &at
	}
	if g := now.Granted; g != nil {
		v.Granted = string(g.Plan)
		if !g.Until.IsZero() {
			at := g.Until.UTC()
			v.GrantedUntil = &at
		}
	}
	if sub := now.Subscription; sub != nil {
		v.Subscription, v.Status = sub.ID, string(sub.Status)
	}
	return v
}

func (v planView) print(w io.Writer, now commands.Overview) error {
	rows := [][]string{{"Account:", v.ID}}
	add := func(name, text string) { rows = append(rows, []string{name, text}) }
	switch name := now.Access.Plan.Offer().Name; v.Level {
	case string(billing.Full):
		add("Plan:", fmt.Sprintf("%s, %d of %s used", name, v.Used, plural(v.Desktops, "desktop")))
	case string(billing.Due):
		add("Plan:", fmt.Sprintf("%s, %d of %s used; a payment is due, so none can be created", name, v.Used, plural(v.Desktops, "desktop")))
	default:
		add("Plan:", fmt.Sprintf("none (%s)", now.Access.Why()))
	}
	if v.StopAt != nil {
		add("Stops:", "desktops that are not allowed stop at "+v.StopAt.Format("2006-01-02 15:04 UTC"))
	}
	if v.Granted != "" {
		text := v.Granted + ", until it is withdrawn"
		if v.GrantedUntil != nil {
			text = v.Granted + " until " + v.GrantedUntil.Format("2006-01-02 15:04 UTC")
		}
		add("Granted:", text)
	}
	if v.Subscription != "" {
		add("Subscription:", fmt.Sprintf("%s, %s", v.Subscription, v.Status))
	}
	if !v.Required {
		add("Note:", "this server requires no plans, so this has no effect; see docs/billing.md")
	}
	return table(w, rows)
}
