package httpapi

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/fair"
)

// device is what tries to get in to the account of an e-mail address. One that logged in before shows
// the token it got then: wrong passwords from elsewhere never keep it out. The token is a random id and
// a keyed hash of id and address; the server stores nothing of it, and it opens nothing by itself.
type device struct {
	email string // the one form of it; "": none that an account may have
	id    string
	known bool // it logged in to this account before
}

// maxDevice bounds a device's token, in bytes.
const maxDevice = 128

// device reads what a request to get in says of its sender. A token that is damaged, or another
// account's, counts as none.
func (s *Server) device(c echo.Context, email, token string) (device, fair.Visitor) {
	d := device{}
	if normal, err := commands.NormalEmail(email); err == nil {
		d.email = normal
	}
	id, _, _ := strings.Cut(token, ".")
	shown := device{email: d.email, id: id}.token(s.cfg.Accounts.Blind)
	if d.known = len(token) <= maxDevice && id != "" && d.email != "" && subtle.ConstantTimeCompare([]byte(shown), []byte(token)) == 1; d.known {
		d.id = id
	} else {
		d.id = rand.Text()
	}
	v := fair.Visitor{Addr: clientAddr(c.Request(), s.cfg.TrustedProxies)}
	if d.known {
		v.Known = s.cfg.Accounts.Blind("throttle", d.email) // a place for the account, however many devices it has
	}
	return d, v
}

func (d device) token(blind func(purpose, value string) string) string {
	return d.id + "." + blind("device", d.id+"|"+d.email)
}

// tally is a number of tries that is counted against a rate.
type tally struct {
	key       string
	rate      Rate
	ofAddress bool // and of no account
}

// notAtFault are the tallies that a log-in with this outcome does not count against. A wrong password counts
// against all. So does, of its address, one that found the address's share of the queue taken: a flood of
// those must end, too.
func notAtFault(list []tally, err error) []tally {
	var refused *domain.Error
	switch {
	case errors.Is(err, commands.ErrCredentials):
		return nil
	case errors.As(err, &refused) && refused.Kind == domain.Exhausted:
		return slices.DeleteFunc(list, func(t tally) bool { return t.ofAddress })
	}
	return list
}

// signUpTallies are what a sign-up counts against.
func (s *Server) signUpTallies(d device, from netip.Addr) []tally {
	list := s.tallies("signup:address", from, s.cfg.Limits.SignUpAddress, true)
	if d.email != "" { // with the address it comes from, or a stranger could keep its owner from signing up
		list = append(list, s.tallies("signup:account:"+d.email, from, s.cfg.Limits.SignUpAccount, false)...)
	}
	return list
}

// logInTallies are what a failed log-in counts against. A device that is known has a tally of its own
// and no other; the rest have several, by account and by address, none of which reports whether there is
// such an account.
func (s *Server) logInTallies(d device, from netip.Addr) []tally {
	if d.known {
		return []tally{{key: s.tallyKey("login:device:" + d.id), rate: s.cfg.Limits.LoginDevice}}
	}
	list := s.tallies("login:address", from, s.cfg.Limits.LoginAddress, true)
	if d.email == "" {
		return list
	}
	list = append(list, s.tallies("login:account:"+d.email, from, s.cfg.Limits.LoginAccount, false)...)
	return append(list, tally{key: s.tallyKey("login:account:" + d.email), rate: s.cfg.Limits.LoginEverywhere})
}

// tallies count by an address, an IPv6 /64 or an IPv4 address, and four times as many by its network, a
// /48 or a /24: see fair.ByAddress.
func (s *Server) tallies(name string, from netip.Addr, rate Rate, ofAddress bool) []tally {
	claims := fair.ByAddress(name, from, rate.Limit, 2*rate.Limit, 4*rate.Limit)
	var list []tally
	for i, c := range claims {
		if i == 0 || i == len(claims)-1 {
			list = append(list, tally{s.tallyKey(c.Key), Rate{c.Max, rate.Window}, ofAddress})
		}
	}
	return list
}

// tallyKey keeps e-mail addresses and addresses of clients out of what counts.
func (s *Server) tallyKey(text string) string { return s.cfg.Accounts.Blind("throttle", text) }

// refusedFor is how long, at most, a tally's refusal is remembered.
const refusedFor = 5 * time.Second

// count counts a try against all the tallies, or against none where one refuses it. What was refused a
// moment ago is refused before anything is counted: the limiter keeps a key for each count, given back or
// not, and a flood of tries must not fill it.
func (s *Server) count(c echo.Context, list []tally) error {
	for _, t := range list {
		if err := tooMany(s.local.spent("refused:"+t.key, Rate{Limit: 1})); err != nil {
			return s.refusedBy(c, t, err)
		}
	}
	for i, t := range list {
		if err := s.throttle(c, t.rate, t.key); err != nil {
			s.giveBack(c, list[:i])
			wait := time.Duration(refused(err).retryAfter) * time.Second
			s.local.allow("refused:"+t.key, Rate{1, min(wait, refusedFor)})
			return s.refusedBy(c, t, err)
		}
	}
	return nil
}

func (s *Server) refusedBy(c echo.Context, t tally, err error) error {
	if t.ofAddress {
		return s.ofAddress(c, err)
	}
	return err
}

// giveBack takes a try back from the tallies.
func (s *Server) giveBack(c echo.Context, list []tally) {
	for _, t := range list {
		s.unthrottle(c, t.rate, t.key)
	}
}
