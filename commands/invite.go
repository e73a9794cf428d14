package commands

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/invite"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// SignUpMode says who may sign up.
type SignUpMode string

const (
	SignUpOpen   SignUpMode = "open"   // anyone
	SignUpInvite SignUpMode = "invite" // anyone with an invitation code
	SignUpClosed SignUpMode = "closed" // no one
)

// Refusals of a sign-up. They share a code; the field distinguishes them.
var (
	ErrSignUpClosed = &domain.Error{Kind: domain.Forbidden, Code: "signup_closed", Msg: "Sign-up is closed on this server."}
	ErrInviteNeeded = &domain.Error{Kind: domain.Forbidden, Code: "signup_closed", Field: "invite",
		Msg: "Sign-up is by invitation on this server. Enter the code of your invitation, or ask the operator for one."}
)

// Invites are the operator's commands about invitations.
type Invites struct {
	Log
	Blind func(purpose, value string) string // as in Accounts
}

// Invitation is a new invitation. Its code is stored nowhere: the log has only a keyed hash.
type Invitation struct {
	ID        string    `json:"id"` // for Revoke; does not reveal the code
	Code      string    `json:"code"`
	Email     string    `json:"email,omitempty"` // the one address it is for
	ExpiresAt time.Time `json:"expires_at"`
}

// Create makes an invitation that is valid for life, for one e-mail address or, with "", for any.
func (c *Invites) Create(ctx context.Context, email string, life time.Duration) (Invitation, error) {
	made := Invitation{Code: newCode(), ExpiresAt: c.Now().Add(life)}
	made.ID = inviteID(c.Blind, made.Code)
	cmd := invite.Create{At: c.Now(), ExpiresAt: made.ExpiresAt}
	if email != "" {
		var err error
		if made.Email, err = NormalEmail(email); err != nil {
			return Invitation{}, err
		}
		cmd.Address = c.Blind("email", made.Email)
	}
	return made, c.change(ctx, made.ID, cmd)
}

// Revoke revokes an invitation that has not been used.
func (c *Invites) Revoke(ctx context.Context, id string) error {
	return c.change(ctx, id, invite.Revoke{})
}

func (c *Invites) change(ctx context.Context, id string, cmd invite.Command) error {
	_, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		_, err := invites.Execute(ctx, u, id, cmd)
		return nil, err
	})
	if err != nil {
		return fmt.Errorf("change invitation: %w", err)
	}
	return nil
}

// newCode returns 130 random bits in a form that people can read and type: 26 letters and digits in groups, none of
// which looks like another.
func newCode() string {
	text := rand.Text()
	var b strings.Builder
	for i, r := range text {
		if i > 0 && i%5 == 0 && i < 25 {
			b.WriteByte('-')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// maxCode bounds the length of a code, in bytes.
const maxCode = 100

// inviteID returns the id of a code's invitation. It ignores case and separators, and corrects confusable characters.
func inviteID(blind func(purpose, value string) string, code string) string {
	code = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '2' && r <= '7':
			return r
		case r == '0':
			return 'O'
		case r == '1':
			return 'I'
		case r == '8':
			return 'B'
		}
		return -1
	}, code[:min(len(code), maxCode)])
	return blind("invitation", code)
}
