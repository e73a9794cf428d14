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

// device is the sender of a sign-up or log-in for an e-mail address. A device that logged in before sends the
// token that it got then, so wrong passwords from elsewhere never lock it out. The token is a random id and a
// keyed hash of id and address. The server does not store it, and it gives no access.
type device struct {
	email string // normalized; "": no valid address
	id    string
	known bool // whether it logged in to this account before
}

// maxDevice bounds a device's token, in bytes.
const maxDevice = 128

// device reads the sender of a sign-up or log-in. A damaged token, or that of another account, is ignored.
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
		v.Known = s.cfg.Accounts.Blind("throttle", d.email) // one place for the account, for any number of devices
	}
	return d, v
}

func (d device) token(blind func(purpose, value string) string) string {
	return d.id + "." + blind("device", d.id+"|"+d.email)
}

// tally is a count of tries that is compared with a rate.
type tally struct {
	key       string
	rate      Rate
	ofAddress bool // counts a client address, not an account
}

// notAtFault returns the tallies that a log-in with this outcome does not count against. A wrong password
// counts against all of them. A log-in that found its address's share of the queue full counts against the
// address, so that a flood of those ends, too.
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

// signUpTallies returns what a sign-up counts against.
func (s *Server) signUpTallies(d device, from netip.Addr) []tally {
	list := s.tallies("signup:address", from, s.cfg.Limits.SignUpAddress, true)
	if d.email != "" { // with the client's address: otherwise a stranger could block the owner's sign-up
		list = append(list, s.tallies("signup:account:"+d.email, from, s.cfg.Limits.SignUpAccount, false)...)
	}
	return list
}

// logInTallies returns what a failed log-in counts against. A known device has only its own tally. All others
// have several, by account and by address; none of them shows whether the account exists.
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

// tallies count by address (an IPv4 address or an IPv6 /64), and four times as many by network (a /24 or a
// /48); see fair.ByAddress.
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

// tallyKey hashes a key, so that limiters hold neither e-mail addresses nor client addresses.
func (s *Server) tallyKey(text string) string { return s.cfg.Accounts.Blind("throttle", text) }

// refusedFor is the longest time that a tally's refusal is remembered.
const refusedFor = 5 * time.Second

// count counts a try against all tallies, or against none if one refuses it. A tally that refused recently
// refuses again before anything is counted: the limiter keeps a key for each count, given back or not, and a
// flood of tries must not fill it.
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

// giveBack undoes the count of a try.
func (s *Server) giveBack(c echo.Context, list []tally) {
	for _, t := range list {
		s.unthrottle(c, t.rate, t.key)
	}
}
