package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/projections"
)

// signUpMode is who may sign up: by default everybody, and in production who is invited.
func (c config) signUpMode() commands.SignUpMode {
	if c.SignUp == "" && c.production() {
		return commands.SignUpInvite
	}
	return cmp.Or(commands.SignUpMode(c.SignUp), commands.SignUpOpen)
}

// checkSignUp refuses a SIGNUP or a MAX_INSTANCES_TOTAL that means nothing.
func (c config) checkSignUp() error {
	switch c.signUpMode() {
	case commands.SignUpOpen, commands.SignUpInvite, commands.SignUpClosed:
	default:
		return fmt.Errorf("SIGNUP is %q; choose open, invite or closed", c.SignUp)
	}
	if c.MaxTotal < 0 || c.MaxTotal == 0 && os.Getenv("MAX_INSTANCES_TOTAL") != "" { // an operator who writes 0 does not mean "no limit"
		return fmt.Errorf("MAX_INSTANCES_TOTAL is %d; give a number from 1, or leave it out for no limit", c.MaxTotal)
	}
	return nil
}

// sayHowToSignUp tells the operator of a new server how the first account comes about.
func sayHowToSignUp(cfg config, log *slog.Logger) {
	switch cfg.signUpMode() {
	case commands.SignUpInvite:
		log.Warn("sign-up is by invitation and there is no account yet: run `cloudbot accounts invite you@example.com` with this server's settings")
	case commands.SignUpClosed:
		log.Warn("sign-up is closed and there is no account yet: start with SIGNUP=invite to let somebody in")
	}
}

// empty tells whether nothing was ever written to the log.
func (p *parts) empty(ctx context.Context) bool {
	head, err := p.store.Head(ctx)
	return err == nil && head == 0
}

// newFleet is the ceiling that MAX_INSTANCES_TOTAL says; nil without one.
func newFleet(cfg config, pool projections.DB, log *slog.Logger) *commands.Fleet {
	if cfg.MaxTotal == 0 {
		return nil
	}
	return &commands.Fleet{Limit: cfg.MaxTotal, Live: (&projections.Reader{Pool: pool}).Live, Logger: log}
}

// countFleet keeps the ceiling's count right, where there is a ceiling.
func (p *parts) countFleet(ctx context.Context) error {
	if f := p.saga.Fleet; f != nil {
		return f.Run(ctx, p.saga.Log)
	}
	<-ctx.Done()
	return nil
}

// newSuspensions enforces by what the read models know.
func newSuspensions(l commands.Log, pool projections.DB, log *slog.Logger) *commands.Suspensions {
	reader := &projections.Reader{Pool: pool}
	return &commands.Suspensions{Log: l, Logger: log, Leftovers: func(ctx context.Context, account string, do func(account, session, instance string) error) error {
		list, err := reader.Leftovers(ctx, account)
		if err != nil {
			return err
		}
		for _, l := range list {
			if err := do(l.Account, l.Session, l.Instance); err != nil {
				return err
			}
		}
		return nil
	}}
}
