package commands

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/token"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Refusals of API tokens.
var (
	ErrTokenName = &domain.Error{Kind: domain.Invalid, Code: "invalid_name", Field: "name",
		Msg: fmt.Sprintf("A token's name has 1 to %d characters, without control characters.", MaxName)}
	ErrTokenDesktop = &domain.Error{Kind: domain.Invalid, Code: "invalid_desktops", Field: "desktops", Msg: "One of these desktops does not exist."}
	// ErrBadToken is the same for every reason, so that it says nothing about tokens.
	ErrBadToken = &domain.Error{Kind: domain.Unauthenticated, Code: "token_invalid", Msg: "This API token is wrong, has expired or was revoked."}
)

// MaxTokenLife is how long an API token with an expiry is valid at most.
const MaxTokenLife = 366 * 24 * time.Hour

// TokenPrefix begins the text of each API token, so that programs which look for leaked secrets recognise one.
const TokenPrefix = "cbt_"

// The text of a token: the prefix, the account's id, the token's id, 130 random bits, and a keyed checksum of all that, by
// which a forged text is refused without a look into the log.
const (
	idChars     = 26 // a ULID, and rand.Text
	checkChars  = 16
	tokenLength = len(TokenPrefix) + 3*idChars + checkChars
)

// tokenNameLabel returns what the sealed name of a token is bound to, in addition to the account.
func tokenNameLabel(id string) string { return "token-name|" + id }

// NewToken asks for an API token.
type NewToken struct {
	Name     string
	Scopes   []token.Scope
	Desktops []string      // the only ones that it may be used for; nil: all
	Life     time.Duration // 0: it does not expire
}

// APIToken is a token as its owner sees it.
type APIToken struct {
	token.Known
	Name string
}

// CreateToken makes an API token of the account and returns its text, which is stored nowhere. The password is asked for
// again, because a token outlives the session that made it.
func (c *Accounts) CreateToken(ctx context.Context, o Origin, password string, n NewToken) (made APIToken, text string, position int64, err error) {
	if n.Name = strings.TrimSpace(n.Name); n.Name == "" || checkName(n.Name) != nil {
		return made, "", 0, ErrTokenName
	}
	if n.Life < 0 || n.Life > MaxTokenLife {
		return made, "", 0, token.ErrExpiry
	}
	s, err := accounts.Fold(ctx, c.Store, o.Account)
	if err != nil {
		return made, "", 0, err
	}
	if !s.Exists() {
		return made, "", 0, account.ErrNotFound
	}
	if err := c.confirmPassword(ctx, o, s, password); err != nil {
		return made, "", 0, err
	}
	if err := c.own(ctx, o.Account, n.Desktops); err != nil {
		return made, "", 0, err
	}
	id := c.NewID()
	text = c.tokenText(o.Account, id, rand.Text())
	t := token.Token{ID: id, Hash: tokenHash(text), Scopes: n.Scopes, Desktops: n.Desktops, At: c.Now()}
	if n.Life > 0 {
		t.ExpiresAt = t.At.Add(n.Life)
	}
	if t.Name, err = c.Vault.Seal(ctx, o.Account, tokenNameLabel(id), []byte(n.Name)); err != nil {
		return made, "", 0, fmt.Errorf("seal name: %w", err)
	}
	o.CommandID = "" // not replayed: a receipt would have to hold the token
	res, err := eventstore.Run(ctx, c.Store, c.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		s, err := tokens.Execute(ctx, u, o.Account, token.Create{Token: t})
		made.Known, _ = s.Find(id)
		return nil, err
	})
	if err != nil {
		return APIToken{}, "", 0, err
	}
	made.Name = n.Name
	return made, text, res.Last, nil
}

// own returns ErrTokenDesktop unless all the desktops are the account's and not final.
func (c *Accounts) own(ctx context.Context, owner string, desktops []string) error {
	if len(desktops) > token.MaxDesktops {
		return token.ErrDesktops
	}
	for _, id := range desktops {
		s, err := instances.Fold(ctx, c.Store, id)
		if err != nil {
			return err
		}
		if s.Account != owner || s.Final() {
			return ErrTokenDesktop
		}
	}
	return nil
}

// RevokeToken revokes one of the account's tokens.
func (c *Accounts) RevokeToken(ctx context.Context, o Origin, id string) (int64, error) {
	res, err := eventstore.Run(ctx, c.Store, c.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		_, err := tokens.Execute(ctx, u, o.Account, token.Revoke{ID: id})
		return nil, err
	})
	return res.Last, err
}

// Tokens returns the account's tokens, oldest first, also those that expired in the last 30 days.
func (c *Accounts) Tokens(ctx context.Context, owner string) ([]APIToken, error) {
	s, err := tokens.Fold(ctx, c.Store, owner)
	if err != nil {
		return nil, err
	}
	list := make([]APIToken, len(s.Tokens))
	for i, k := range s.Tokens {
		name, err := c.Vault.Open(ctx, owner, tokenNameLabel(k.ID), k.Token.Name)
		if err != nil {
			return nil, fmt.Errorf("open name: %w", err)
		}
		list[i] = APIToken{k, string(name)}
	}
	return list, nil
}

// Present returns the account and the token of a text, or ErrBadToken. It reads the log, so a token that was revoked at any
// replica is refused at once.
func (c *Accounts) Present(ctx context.Context, o Origin, text string) (owner string, t token.Token, err error) {
	owner, id, ok := c.parseToken(text)
	if !ok {
		return "", token.Token{}, ErrBadToken
	}
	s, err := tokens.Fold(ctx, c.Store, owner)
	if err != nil {
		return "", token.Token{}, err
	}
	k, found := s.Find(id)
	if !found || subtle.ConstantTimeCompare(k.Hash, tokenHash(text)) == 0 || !k.Live(c.Now()) {
		return "", token.Token{}, ErrBadToken
	}
	use := token.Use{ID: id, At: c.Now()}
	if due, err := token.Decide(s, use); err == nil && len(due) > 0 {
		// That the use is not recorded is no reason to refuse it.
		o.Account = owner
		_, _ = eventstore.Run(ctx, c.Store, c.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
			_, err := tokens.Execute(ctx, u, owner, use)
			return nil, err
		})
	}
	return owner, k.Token, nil
}

// Token returns one of the account's tokens that is still valid, or ErrBadToken.
func (c *Accounts) Token(ctx context.Context, owner, id string) (token.Token, error) {
	s, err := tokens.Fold(ctx, c.Store, owner)
	if err != nil {
		return token.Token{}, err
	}
	k, found := s.Find(id)
	if !found || !k.Live(c.Now()) {
		return token.Token{}, ErrBadToken
	}
	return k.Token, nil
}

func (c *Accounts) tokenText(owner, id, secret string) string {
	text := TokenPrefix + owner + id + secret
	return text + c.Blind("api token", text)[:checkChars]
}

func (c *Accounts) parseToken(text string) (owner, id string, ok bool) {
	body, prefixed := strings.CutPrefix(text, TokenPrefix)
	if !prefixed || len(text) != tokenLength {
		return "", "", false
	}
	owner, id = body[:idChars], body[idChars:2*idChars]
	want := c.tokenText(owner, id, body[2*idChars:3*idChars])
	return owner, id, subtle.ConstantTimeCompare([]byte(text), []byte(want)) == 1
}

func tokenHash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}
