package commands

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/claim"
	"github.com/cloudbot-ai/control-plane/domain/invite"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// MaxEmail bounds an e-mail address, in bytes (RFC 5321).
const MaxEmail = 254

// Refusals.
var (
	ErrEmail         = &domain.Error{Kind: domain.Invalid, Code: "invalid_email", Msg: "This is not an e-mail address; write it as name@example.com."}
	ErrCredentials   = &domain.Error{Kind: domain.Unauthenticated, Code: "wrong_credentials", Msg: "E-mail address or password is wrong."}
	ErrWrongPassword = &domain.Error{Kind: domain.Forbidden, Code: "wrong_password", Msg: "The current password is wrong."}
	ErrNoSession     = &domain.Error{Kind: domain.NotFound, Code: "session_not_found", Msg: "There is no such session."}
)

// Passwords hashes passwords and compares them.
type Passwords interface {
	// Check returns a *domain.Error for a password that is too short, too long, too common or made of the e-mail
	// address.
	Check(password, email string) error
	Hash(ctx context.Context, password string) ([]byte, error)
	// Compare takes as long for a nil hash as for a wrong password.
	Compare(ctx context.Context, hash []byte, password string) (bool, error)
	// Outdated reports whether the hash should be replaced once the password is known.
	Outdated(hash []byte) bool
}

// Accounts are the commands about accounts and their sessions.
type Accounts struct {
	Log
	Vault     Vault
	Passwords Passwords
	// Blind returns a keyed hash, by which an e-mail address is stored.
	Blind func(purpose, value string) string
	// Audit records failed log-ins. Nil: they are not recorded.
	Audit *Audit
	// Mode says who may sign up. "": SignUpOpen.
	Mode SignUpMode
}

// Labels of an account's sealed data.
const (
	EmailLabel    = "email"
	passwordLabel = "password"
)

// NormalEmail returns the normal form of an address, by which accounts are identified, or ErrEmail.
func NormalEmail(email string) (string, error) {
	email = strings.ToLower(norm.NFKC.String(strings.TrimSpace(email)))
	parsed, err := mail.ParseAddress(email)
	if err != nil || parsed.Address != email || len(email) > MaxEmail || strings.IndexFunc(email, invisible) >= 0 {
		return "", ErrEmail
	}
	if _, host, ok := strings.Cut(email, "@"); !ok || !strings.Contains(strings.Trim(host, "."), ".") {
		return "", ErrEmail
	}
	return email, nil
}

// invisible reports whether a character is not drawn, or not on its own: two addresses that differ in it look the same.
func invisible(r rune) bool {
	return isControl(r) || unicode.In(r, unicode.Cf, unicode.Z, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// SignUp opens an account and its first session. code is an invitation's code, which only SignUpInvite requires; agent
// is the client's User-Agent.
func (c *Accounts) SignUp(ctx context.Context, o Origin, email, password, code, agent string) (Login, error) {
	switch {
	case c.Mode == SignUpClosed:
		return Login{}, ErrSignUpClosed
	case c.Mode == SignUpInvite && strings.TrimSpace(code) == "":
		return Login{}, ErrInviteNeeded
	}
	email, err := NormalEmail(email)
	if err != nil {
		return Login{}, err
	}
	if err := c.Passwords.Check(password, email); err != nil {
		return Login{}, err
	}
	address := c.Blind("email", email)
	// Without a valid code a stranger costs no hash, and cannot find out which addresses have an account.
	use := invite.Use{Address: address, At: c.Now()}
	if c.Mode == SignUpInvite {
		s, err := invites.Fold(ctx, c.Store, inviteID(c.Blind, code))
		if err != nil {
			return Login{}, err
		}
		if _, err := invite.Decide(s, use); err != nil {
			return Login{}, err
		}
	}
	if owner, err := c.Owner(ctx, email); err != nil {
		return Login{}, err
	} else if owner != "" {
		return Login{}, claim.ErrTaken
	}
	hash, err := c.Passwords.Hash(ctx, password)
	if err != nil {
		return Login{}, err
	}
	id := c.NewID()
	o.Account = id
	opened, err := c.seal(ctx, id, email, hash)
	if err != nil {
		return Login{}, err
	}
	login := Login{Account: id, Session: c.NewID()}
	start, err := c.start(ctx, o, login, agent)
	if err != nil {
		return Login{}, err
	}
	use.Account = id
	res, err := eventstore.Run(ctx, c.Store, c.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		if c.Mode == SignUpInvite {
			if _, err := invites.Execute(ctx, u, inviteID(c.Blind, code), use); err != nil {
				return nil, err
			}
		}
		if _, err := claims.Execute(ctx, u, address, claim.Claim{Account: id}); err != nil {
			return nil, err
		}
		if _, err := accounts.Execute(ctx, u, id, opened); err != nil {
			return nil, err
		}
		s, err := sessions.Execute(ctx, u, login.Session, start)
		login.Leaf = s.Leaf
		return nil, err
	})
	if err != nil {
		var refused *domain.Error
		if errors.As(err, &refused) {
			// The data key will never be used. If the outcome is unknown it must stay: the account may exist.
			err = errors.Join(err, c.Vault.DropKey(context.WithoutCancel(ctx), id))
		}
		return Login{}, err
	}
	login.Position = res.Last
	return login, nil
}

func (c *Accounts) seal(ctx context.Context, id, email string, hash []byte) (account.SignUp, error) {
	if err := c.Vault.NewKey(ctx, id); err != nil {
		return account.SignUp{}, fmt.Errorf("make data key: %w", err)
	}
	sealedEmail, err := c.Vault.Seal(ctx, id, EmailLabel, []byte(email))
	if err != nil {
		return account.SignUp{}, fmt.Errorf("seal e-mail: %w", err)
	}
	sealedHash, err := c.Vault.Seal(ctx, id, passwordLabel, hash)
	if err != nil {
		return account.SignUp{}, fmt.Errorf("seal password: %w", err)
	}
	return account.SignUp{Email: sealedEmail, Password: sealedHash, At: c.Now()}, nil
}

// credential is what a log-in is checked against.
type credential struct {
	hash      []byte // nil: there is no such account
	sealed    []byte // the same
	suspended bool
}

// lookUp returns the account of an address and its credential, or neither.
func (c *Accounts) lookUp(ctx context.Context, email string) (id string, found credential, err error) {
	email, err = NormalEmail(email)
	if err != nil {
		return "", found, nil
	}
	if id, err = c.Owner(ctx, email); err != nil || id == "" {
		return "", found, err
	}
	found, err = c.credential(ctx, id)
	return id, found, err
}

// Owner returns the account of a normal address, or "".
func (c *Accounts) Owner(ctx context.Context, email string) (string, error) {
	s, err := claims.Fold(ctx, c.Store, c.Blind("email", email))
	return s.Account, err
}

func (c *Accounts) credential(ctx context.Context, id string) (credential, error) {
	s, err := accounts.Fold(ctx, c.Store, id)
	if err != nil {
		return credential{}, err
	}
	hash, err := c.passwordHash(ctx, id, s)
	return credential{hash, s.Password, s.Suspended}, err
}

// passwordHash returns an account's password hash, or nil if there is no account.
func (c *Accounts) passwordHash(ctx context.Context, id string, s account.State) ([]byte, error) {
	if !s.Exists() {
		return nil, nil
	}
	hash, err := c.Vault.Open(ctx, id, passwordLabel, s.Password)
	if err != nil {
		return nil, fmt.Errorf("open password hash: %w", err)
	}
	return hash, nil
}

func (c *Accounts) email(ctx context.Context, id string, s account.State) (string, error) {
	email, err := c.Vault.Open(ctx, id, EmailLabel, s.Email)
	if err != nil {
		return "", fmt.Errorf("open e-mail: %w", err)
	}
	return string(email), nil
}

// Email returns an account's e-mail address.
func (c *Accounts) Email(ctx context.Context, id string) (string, error) {
	p, err := c.Profile(ctx, id)
	return p.Email, err
}

// ChangePassword replaces the password and ends the sessions in others, in one append.
func (c *Accounts) ChangePassword(ctx context.Context, o Origin, current, next string, others []string) (int64, error) {
	s, err := accounts.Fold(ctx, c.Store, o.Account)
	if err != nil {
		return 0, err
	}
	if err := c.confirmPassword(ctx, o, s, current); err != nil {
		return 0, err
	}
	email, err := c.email(ctx, o.Account, s)
	if err != nil {
		return 0, err
	}
	if err := c.Passwords.Check(next, email); err != nil {
		return 0, err
	}
	hash, err := c.Passwords.Hash(ctx, next)
	if err != nil {
		return 0, err
	}
	sealed, err := c.Vault.Seal(ctx, o.Account, passwordLabel, hash)
	if err != nil {
		return 0, fmt.Errorf("seal password: %w", err)
	}
	res, err := eventstore.Run(ctx, c.Store, c.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		if _, err := accounts.Execute(ctx, u, o.Account, account.ChangePassword{Password: sealed}); err != nil {
			return nil, err
		}
		for _, id := range others {
			if _, err := sessions.Execute(ctx, u, id, session.End{Reason: session.PasswordChanged}); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	return res.Last, err
}

// confirmPassword returns ErrWrongPassword unless the password is the account's.
func (c *Accounts) confirmPassword(ctx context.Context, o Origin, s account.State, password string) error {
	hash, err := c.passwordHash(ctx, o.Account, s)
	if err != nil {
		return err
	}
	ok, err := c.Passwords.Compare(ctx, hash, password)
	if err != nil {
		return err
	}
	if !ok {
		c.Audit.LogInFailed(o.Account)
		return ErrWrongPassword
	}
	return nil
}

// Profile is an account as its owner sees it.
type Profile struct {
	ID        string
	Email     string
	CreatedAt time.Time
}

// Profile returns the account, or account.ErrNotFound.
func (c *Accounts) Profile(ctx context.Context, id string) (Profile, error) {
	s, err := accounts.Fold(ctx, c.Store, id)
	if err != nil {
		return Profile{}, err
	}
	if !s.Exists() {
		return Profile{}, account.ErrNotFound
	}
	email, err := c.email(ctx, id, s)
	if err != nil {
		return Profile{}, err
	}
	return Profile{ID: id, Email: email, CreatedAt: s.CreatedAt}, nil
}
