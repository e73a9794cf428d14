package commands

import (
	"context"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Guests are the commands of the machines' guests.
type Guests struct {
	Log
	APIKeys *Keys
	Tokens  machines.Enrolment
	Audit   *Audit // records which machines receive keys; nil: not recorded
}

// ErrNotEnrolled refuses a guest whose key the log does not have, or has lost by a restore. The guest then enrols again,
// with its own key.
var ErrNotEnrolled = &domain.Error{Kind: domain.Unauthenticated, Code: "not_enrolled", Msg: "This machine has not enrolled."}

// Enroll binds the public key of a machine's guest to the instance of its token. The same token with the same key is
// accepted again; with another key it is refused.
func (c *Guests) Enroll(ctx context.Context, token string, publicKey []byte) (string, error) {
	id, attempt, err := c.Tokens.Parse(token)
	if err != nil || len(publicKey) != 32 {
		return "", instance.ErrEnrolment
	}
	cmd := instance.Enroll{Attempt: attempt, PublicKey: publicKey, At: c.Now()}
	_, err = c.executeIf(ctx, id, cmd, func(s instance.State) error {
		if !c.Tokens.Verify(token, s.Spec.TokenKey) {
			return instance.ErrEnrolment
		}
		return nil
	})
	return id, err
}

// Guest returns the public key of the instance's guest, which the machine must prove to own, and the account.
func (c *Guests) Guest(ctx context.Context, id string) (publicKey []byte, account string, err error) {
	s, err := instances.Fold(ctx, c.Store, id)
	switch {
	case err != nil:
		return nil, "", err
	case !s.Exists():
		return nil, "", instance.ErrNotFound
	case s.Final():
		return nil, "", instance.ErrGone
	case s.PublicKey == nil:
		return nil, "", ErrNotEnrolled
	}
	return s.PublicKey, s.Account, nil
}

// Reached records the phase that the machine's boot has reached, up to instance.PhaseReady. Phases only advance within
// a boot; a repeated or late one changes nothing.
func (c *Guests) Reached(ctx context.Context, id, boot string, phase instance.Phase, detail string) error {
	_, err := c.ExecuteInstance(ctx, id, instance.ReachPhase{Boot: clip(boot, 64), Phase: phase, Detail: clip(detail, 200), At: c.Now()})
	return err
}

// Versions records the versions of what the machine runs, by name. Known versions change nothing, and neither do
// reports beyond instance.MaxReports.
func (c *Guests) Versions(ctx context.Context, id, boot string, versions map[string]string) error {
	_, err := c.ExecuteInstance(ctx, id, instance.ReportVersions{Boot: clip(boot, 64), Versions: versions, At: c.Now()})
	return err
}

// ModelCost records what the machine's models cost so far, in micro-dollars, by a meter that begins at 0 when its guest
// starts. A total that is not higher than the meter's latest one changes nothing.
func (c *Guests) ModelCost(ctx context.Context, id, meter string, total int64) error {
	_, err := c.ExecuteInstance(ctx, id, instance.ReportModelCost{Meter: clip(meter, 64), Total: total, At: c.Now()})
	return err
}

// Warning returns the warning that stands: the desktop will stop by itself. nil: there is none.
func (c *Guests) Warning(ctx context.Context, id string) (*instance.IdleWarned, error) {
	s, err := instances.Fold(ctx, c.Store, id)
	if err != nil {
		return nil, err
	}
	return s.Warned, nil
}

// Keys returns the account's API keys by environment variable, for one of its machines.
func (c *Guests) Keys(ctx context.Context, account, id string) (map[string]string, error) {
	env, err := c.APIKeys.Environment(ctx, account)
	if len(env) > 0 {
		c.Audit.KeysHandedOut(account, id)
	}
	return env, err
}
