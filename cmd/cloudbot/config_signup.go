package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"

	"github.com/cloudbot-ai/control-plane/commands"
)

// signUpMode is who may sign up: by default anyone, in production only people with an invitation.
func (c config) signUpMode() commands.SignUpMode {
	if c.SignUp == "" && c.production() {
		return commands.SignUpInvite
	}
	return cmp.Or(commands.SignUpMode(c.SignUp), commands.SignUpOpen)
}

// checkSignUp refuses a SIGNUP or MAX_INSTANCES_TOTAL that has no meaning.
func (c config) checkSignUp() error {
	switch c.signUpMode() {
	case commands.SignUpOpen, commands.SignUpInvite, commands.SignUpClosed:
	default:
		return fmt.Errorf("SIGNUP is %q; choose open, invite or closed", c.SignUp)
	}
	if c.MaxTotal < 0 || c.MaxTotal == 0 && os.Getenv("MAX_INSTANCES_TOTAL") != "" { // an operator who writes 0 does not mean "no limit"
		return fmt.Errorf("MAX_INSTANCES_TOTAL is %d; use a number from 1, or leave it out for no limit", c.MaxTotal)
	}
	return nil
}

// sayHowToSignUp tells the operator of a new server how to create the first account.
func sayHowToSignUp(cfg config, log *slog.Logger) {
	switch cfg.signUpMode() {
	case commands.SignUpInvite:
		log.Warn("sign-up is by invitation and there is no account yet: run `cloudbot accounts invite you@example.com` with this server's settings")
	case commands.SignUpClosed:
		log.Warn("sign-up is closed and there is no account yet: start with SIGNUP=invite to admit the first one")
	}
}
