package commands

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/domain/claim"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Import is the operator's commands that bring over accounts, keys and machines from another control plane. Ids derive
// from those of the other one, so a command that is repeated finds what it did, and does only what is new.
//
// The one thing to know: what its owner changed here since is kept.
type Import struct {
	Log
	Vault    Vault
	Blind    func(purpose, value string) string
	Outdated func(hash []byte) bool // as in Passwords: its owner has not logged in with it here yet
	Cloud    machines.Cloud         // where the machines are
	// Known returns the instance that has this machine, "" for none.
	Known func(ctx context.Context, machine string) (instance string, err error)
	Dry   bool // write nothing, and return what would be done
}

// Fate is what an import did with one thing.
type Fate string

const (
	Added     Fate = "added"
	Updated   Fate = "updated"   // it had changed there
	Unchanged Fate = "unchanged" // imported before
	Kept      Fate = "kept"      // its owner has changed it here
)

// Unfit is the reason why one thing cannot be imported, for the operator. An import continues with the next one.
type Unfit string

func (u Unfit) Error() string { return string(u) }

// Reasons.
const (
	UnfitTaken   Unfit = "another account has its e-mail address here; that one is kept, and nothing is added to it"
	UnfitMoved   Unfit = "its e-mail address has changed there since it was imported; the account here keeps the earlier one"
	UnfitMachine Unfit = "it has no machine on EC2 (ec2_instance_id)"
	UnfitGone    Unfit = "EC2 says that its machine is terminated"
	UnfitMoving  Unfit = "its machine is starting or stopping; import again when it is running or stopped"
)

// ForeignAccount is an account of another control plane.
type ForeignAccount struct {
	ID    string // there
	Email string
	Hash  []byte // of the password, as Passwords compares it
	At    time.Time
}

// Account imports an account and returns its id here.
func (c *Import) Account(ctx context.Context, a ForeignAccount) (id string, fate Fate, err error) {
	email, err := NormalEmail(a.Email)
	if err != nil {
		return "", "", err
	}
	id, address := foreignID("account", a.ID), c.Blind("email", email)
	owner, err := claims.Fold(ctx, c.Store, address)
	if err != nil {
		return "", "", err
	}
	s, err := accounts.Fold(ctx, c.Store, id)
	switch {
	case err != nil:
		return "", "", err
	case s.Exists() && owner.Account != id:
		return "", "", UnfitMoved
	case s.Exists():
		fate, err = c.password(ctx, id, s, a.Hash)
		return id, fate, err
	case owner.Account != "":
		return "", "", UnfitTaken
	case c.Dry:
		return id, Added, nil
	}
	opens, err := (&Accounts{Log: c.Log, Vault: c.Vault}).seal(ctx, id, email, a.Hash)
	if err != nil {
		return "", "", err
	}
	opens.At, opens.Imported = c.past(a.At), true
	_, err = c.run(ctx, func(u *eventstore.Unit) error {
		if _, err := claims.Execute(ctx, u, address, claim.Claim{Account: id}); err != nil {
			return err
		}
		_, err := accounts.Execute(ctx, u, id, opens)
		return err
	})
	switch {
	case errors.Is(err, account.ErrExists): // another import was faster
		return id, Unchanged, nil
	case errors.Is(err, claim.ErrTaken): // by a sign-up at the same time; the data key will not be used
		return "", "", errors.Join(UnfitTaken, c.Vault.DropKey(context.WithoutCancel(ctx), id))
	}
	return id, Added, err
}

// password brings over a password that was changed there before its owner logged in here.
func (c *Import) password(ctx context.Context, id string, s account.State, hash []byte) (Fate, error) {
	present, err := c.Vault.Open(ctx, id, passwordLabel, s.Password)
	switch {
	case err != nil:
		return "", fmt.Errorf("open password hash: %w", err)
	case bytes.Equal(present, hash):
		return Unchanged, nil
	case !c.Outdated(present):
		return Kept, nil
	case c.Dry:
		return Updated, nil
	}
	sealed, err := c.Vault.Seal(ctx, id, passwordLabel, hash)
	if err != nil {
		return "", fmt.Errorf("seal password: %w", err)
	}
	changed, err := c.run(ctx, func(u *eventstore.Unit) error {
		_, err := accounts.Execute(ctx, u, id, account.Rehash{Of: s.Password, Password: sealed})
		return err
	})
	if err == nil && !changed {
		return Kept, nil
	}
	return Updated, err
}

// Key imports an API key of an account that was imported. provider is an id or a name as apikey.Named takes it.
func (c *Import) Key(ctx context.Context, acc, provider, key string) (Fate, error) {
	p, err := apikey.Named(provider)
	if err != nil {
		return "", Unfit(fmt.Sprintf("there is no provider %q here", clip(provider, 40)))
	}
	if key, err = checkKey(key); err != nil {
		return "", err
	}
	fate := Added
	_, err = c.run(ctx, func(u *eventstore.Unit) error {
		id := keyStream(acc, p.ID)
		s, err := apikeys.Load(ctx, u, id)
		if err != nil {
			return err
		}
		if fate, err = c.keyFate(ctx, acc, p.ID, s, key); err != nil || fate != Added && fate != Updated || c.Dry {
			return err
		}
		return storeLoadedKey(ctx, u, c.Vault, acc, p.ID, key, s, false)
	})
	return fate, err
}

// keyFate decides what becomes of a key. Its last event is an import's if its actor is the operator.
func (c *Import) keyFate(ctx context.Context, acc, provider string, s apikey.State, key string) (Fate, error) {
	if s.Version == 0 {
		return Added, nil
	}
	if s.Key != nil {
		present, err := c.Vault.Open(ctx, acc, keyLabel(provider, s.Version), s.Key)
		if err != nil {
			return "", fmt.Errorf("open key: %w", err)
		}
		if string(present) == key {
			return Unchanged, nil
		}
	}
	actor := ""
	for e, err := range c.Store.ReadStream(ctx, apikeys.Stream(keyStream(acc, provider)), 0) {
		if err != nil {
			return "", err
		}
		actor = e.Meta.Actor
	}
	if actor != Operator {
		return Kept, nil
	}
	return Updated, nil
}

// ForeignMachine is a machine that another control plane launched.
type ForeignMachine struct {
	ID      string // of its instance there
	Name    string
	Machine string    // the cloud's id
	At      time.Time // when it was made
}

var machineID = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)

// Machine takes a machine over as an instance of an account that was imported. The account gets a slot for it whatever
// its limit is: the machine exists.
func (c *Import) Machine(ctx context.Context, acc string, m ForeignMachine) (id string, fate Fate, err error) {
	if !machineID.MatchString(m.Machine) {
		return "", "", UnfitMachine
	}
	id = foreignID("instance", m.ID)
	s, err := instances.Fold(ctx, c.Store, id)
	if err != nil || s.Exists() {
		return id, Unchanged, err
	}
	if owner, err := c.Known(ctx, m.Machine); err != nil {
		return "", "", err
	} else if owner != "" {
		return "", "", Unfit("desktop " + owner + " here has its machine")
	}
	seen, err := c.look(ctx, m.Machine)
	if err != nil || c.Dry {
		return id, Added, err
	}
	sealed, err := c.Vault.Seal(ctx, acc, NameLabel(id), []byte(fitName(m.Name)))
	if err != nil {
		return "", "", fmt.Errorf("seal name: %w", err)
	}
	_, err = c.run(ctx, func(u *eventstore.Unit) error {
		if _, err := quotas.Execute(ctx, u, acc, quota.Take{Instance: id, Limit: math.MaxInt}); err != nil {
			return err
		}
		if err := c.Fleet.adopt(ctx, u, id); err != nil {
			return err
		}
		_, err := instances.Execute(ctx, u, id, instance.TakeOver{
			Account: acc, Name: sealed, Region: c.Cloud.Region(), Machine: m.Machine, Address: seen.Address, Stopped: seen.Seen == instance.SeenStopped,
			CreatedAt: c.past(m.At), At: c.Now(),
		})
		return err
	})
	if errors.Is(err, instance.ErrExists) { // another import was faster
		return id, Unchanged, nil
	}
	return id, Added, err
}

// look returns what the cloud says about a machine that can be taken over. A machine that it does not list would be given
// up later, and could not be imported again.
func (c *Import) look(ctx context.Context, machine string) (machines.Machine, error) {
	list, err := c.Cloud.Describe(ctx, []string{machine})
	if err != nil {
		return machines.Machine{}, fmt.Errorf("describe machine %s: %w", machine, err)
	}
	if len(list) == 0 {
		return machines.Machine{}, Unfit("EC2 does not list its machine in " + c.Cloud.Region() + "; is AWS_REGION the original's?")
	}
	switch list[0].Seen {
	case instance.SeenRunning, instance.SeenStopped:
		return list[0], nil
	case instance.SeenGone:
		return machines.Machine{}, UnfitGone
	}
	return machines.Machine{}, UnfitMoving
}

// past returns t, or the present if t is unknown or in the future.
func (c *Import) past(t time.Time) time.Time {
	if now := c.Now(); t.IsZero() || t.After(now) {
		return now
	}
	return t
}

// run runs a command of the operator and reports whether it wrote something.
func (c *Import) run(ctx context.Context, decide func(*eventstore.Unit) error) (wrote bool, err error) {
	res, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		return nil, decide(u)
	})
	return res.Last > 0, err
}

// foreignID returns the id here of something with an id of another control plane. Its time is 1970, so it sorts before
// all that is made here.
func foreignID(what, id string) string {
	sum := sha256.Sum256([]byte("cloudbot import|" + what + "|" + strings.ToLower(id)))
	var made ulid.ULID
	copy(made[6:], sum[:]) // the first six bytes are the time
	return made.String()
}

// fitName returns a name as instances have them here.
func fitName(name string) string {
	name = strings.TrimSpace(clip(name, len(name)))
	if r := []rune(name); len(r) > MaxName {
		name = strings.TrimSpace(string(r[:MaxName]))
	}
	if name == "" {
		return "My desktop"
	}
	return name
}
