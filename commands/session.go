package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Login is a session that began or was refreshed; the front makes its tokens from it.
type Login struct {
	Account  string
	Session  string
	Leaf     session.Leaf
	Position int64 // for queries to wait for
}

// LogIn begins a session. It refuses an unknown address with the same answer as a wrong password, and as slowly. Only a
// client that knows the password learns that an account is suspended.
func (c *Accounts) LogIn(ctx context.Context, o Origin, email, password, agent string) (Login, error) {
	id, found, err := c.lookUp(ctx, email)
	if err != nil {
		return Login{}, err
	}
	ok, err := c.Passwords.Compare(ctx, found.hash, password)
	switch {
	case err != nil:
		return Login{}, err
	case id == "":
		return Login{}, ErrCredentials
	case !ok:
		c.Audit.LogInFailed(id)
		return Login{}, ErrCredentials
	case found.suspended:
		return Login{}, account.ErrSuspended
	}
	o.Account = id
	login := Login{Account: id, Session: c.NewID()}
	start, err := c.start(ctx, o, login, agent)
	if err != nil {
		return Login{}, err
	}
	res, err := eventstore.Run(ctx, c.Store, c.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		s, err := sessions.Execute(ctx, u, login.Session, start)
		login.Leaf = s.Leaf
		return nil, err
	})
	if err != nil {
		return Login{}, err
	}
	login.Position = res.Last
	if err := c.confirm(ctx, o, login, found.hash, password); err != nil {
		return login, err
	}
	if c.Passwords.Outdated(found.hash) {
		c.rehash(ctx, o, found.sealed, password)
	}
	return login, nil
}

// confirm ends the new session if the password has been changed, or the account suspended, since the comparison. The
// change ended the sessions that existed then, but not this one.
func (c *Accounts) confirm(ctx context.Context, o Origin, login Login, hash []byte, password string) error {
	now, err := c.credential(ctx, login.Account)
	refusal, why := error(ErrCredentials), session.PasswordChanged
	same := bytes.Equal(now.hash, hash)
	if err == nil && !same && c.Passwords.Outdated(hash) { // another log-in may have replaced the hash of the same password
		same, err = c.Passwords.Compare(ctx, now.hash, password)
	}
	switch {
	case err != nil:
		refusal = nil // the error is not about the password
	case now.suspended:
		refusal, why = account.ErrSuspended, session.Suspended
	case same:
		return nil
	}
	_, ended := c.EndSession(ctx, o, login.Session, why)
	return errors.Join(refusal, err, ended)
}

// rehash replaces the outdated hash of a password that was just compared with it. A failure has no effect on the log-in:
// the next one tries again. A password whose length no new one may have keeps its hash.
func (c *Accounts) rehash(ctx context.Context, o Origin, outdated []byte, password string) {
	hash, err := c.Passwords.Hash(ctx, password)
	if err != nil {
		return
	}
	sealed, err := c.Vault.Seal(ctx, o.Account, passwordLabel, hash)
	if err != nil {
		return
	}
	_, _ = eventstore.Run(ctx, c.Store, c.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		_, err := accounts.Execute(ctx, u, o.Account, account.Rehash{Of: outdated, Password: sealed})
		return nil, err
	})
}

// AddressLabel returns what the sealed client address of a session is bound to, in addition to the account.
func AddressLabel(sessionID string) string { return "session-address|" + sessionID }

func (c *Accounts) start(ctx context.Context, o Origin, login Login, agent string) (session.Start, error) {
	cmd := session.Start{Account: login.Account, TokenID: c.NewID(), Agent: clip(agent, 200), At: c.Now()}
	if o.ClientAddr == "" {
		return cmd, nil
	}
	var err error
	if cmd.Address, err = c.Vault.Seal(ctx, login.Account, AddressLabel(login.Session), []byte(o.ClientAddr)); err != nil {
		err = fmt.Errorf("seal address: %w", err)
	}
	return cmd, err
}

// Refresh rotates the session's refresh token; agent is the client's User-Agent. A token that was already replaced ends
// the session, and so does any token of a suspended account.
func (c *Accounts) Refresh(ctx context.Context, o Origin, sessionID, tokenID, agent string) (Login, error) {
	login := Login{Session: sessionID}
	client := c.Blind("refreshing client", o.ClientAddr+"|"+agent)
	cmd := session.Refresh{Presented: tokenID, NextID: c.NewID(), Client: client, At: c.Now()}
	res, err := eventstore.Run(ctx, c.Store, c.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		s, err := sessions.Execute(ctx, u, sessionID, cmd)
		if err != nil {
			return nil, err
		}
		login.Account, login.Leaf = s.Account, s.Leaf
		if s.Ended != "" {
			login.Account = ""
		}
		return nil, nil
	})
	login.Position = res.Last
	switch {
	case err != nil:
		return login, err
	case login.Account == "":
		return login, session.ErrEnded
	}
	// Read after the append: of a suspension and a refresh at the same time, one sees the other.
	s, err := accounts.Fold(ctx, c.Store, login.Account)
	if err == nil && s.Suspended {
		o.Account = login.Account
		_, err = c.EndSession(ctx, o, sessionID, session.Suspended)
		err = errors.Join(session.ErrEnded, err)
	}
	return login, err
}

// EndSession ends one of the account's own sessions.
func (c *Accounts) EndSession(ctx context.Context, o Origin, sessionID string, why session.Reason) (int64, error) {
	res, err := eventstore.Run(ctx, c.Store, c.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		s, err := sessions.Load(ctx, u, sessionID)
		if err != nil {
			return nil, err
		}
		if s.Account == "" || s.Account != o.Account {
			return nil, ErrNoSession
		}
		_, err = sessions.Execute(ctx, u, sessionID, session.End{Reason: why})
		return nil, err
	})
	return res.Last, err
}

// Known reports whether the log has an account and a session. A log that was restored from an older backup lacks later
// ones, whose tokens still have valid signatures.
func (c *Accounts) Known(ctx context.Context, owner, session string) (bool, error) {
	for _, stream := range []eventstore.StreamID{{Aggregate: "session", ID: session}, {Aggregate: "account", ID: owner}} {
		if version, err := c.Store.Version(ctx, stream); err != nil || version == 0 {
			return false, err
		}
	}
	return true, nil
}
