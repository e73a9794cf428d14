package tunnel

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Limits for connections before they prove an identity. A fleet may be behind one address and reconnect
// together after a deploy. Its guests retry within seconds, so these limits may be tight.
const (
	maxGreetings   = 512 // connections in their greeting at a time
	greetingsOne   = 64  // of them from one address
	greetingsSite  = 128
	greetingsWide  = 128
	proofTime      = 3 * time.Second // for the proof to arrive after the challenge was sent
	maxEnrolments  = 128             // enrolments at a time
	enrolmentsOne  = 16
	enrolmentsSite = 32
	enrolmentsWide = 64
	bodyTime       = 3 * time.Second // for an enrolment's body, which has at most 8 KiB
)

// Tries in a minute. A guest without an answer tries about 20 times.
const (
	greetTries     = 60_000 // greetings in total; each looks up a machine in the log
	greetTriesOne  = 3000   // from one address: a fleet behind it, after a deploy
	greetTriesSite = 6000
	greetTriesWide = 12_000

	enrolTries     = 3000 // enrolments in total
	enrolTriesOne  = 300  // from one address
	enrolTriesSite = 600
	enrolTriesWide = 1200
	enrolTriesOwn  = 30 // for one machine from one network; a limit for the machine alone could be used up by strangers

	connects        = 30_000 // connections in total, of guests that proved their identity
	connectsMachine = 60
	connectsAccount = 3000 // an account may have 1,000 machines, which all reconnect after a deploy
)

// tries counts tries in a minute: a place is given back a minute after it was taken.
type tries struct{ places *fair.Places }

func newTries(total int) tries { return tries{fair.NewPlaces(total)} }

func (t tries) take(claims ...fair.Claim) fair.Verdict {
	leave, v := t.places.Take(claims...)
	if v == fair.Taken {
		time.AfterFunc(time.Minute, leave)
	}
	return v
}

// ofMachine returns the claim of an enrolment's machine and client network together.
func ofMachine(token string, from netip.Addr) []fair.Claim {
	id, _, _ := strings.Cut(token, ".")
	if !wire.Word(id) {
		return nil // not a token; only the address's claims count it
	}
	one := fair.ByAddress("machine "+id, from, enrolTriesOwn, enrolTriesOwn, enrolTriesOwn)
	return one[len(one)-1:]
}

// remote returns the address of a request's connection.
func remote(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr()
}

// crowded refuses a request for which there is no place.
func crowded(w http.ResponseWriter, r *http.Request, v fair.Verdict, after string) {
	w.Header().Set("Retry-After", after)
	if v == fair.ShareFull {
		refuse(w, r, http.StatusTooManyRequests, "too_many_from_here", "Too many machines are connecting from this network; try again in "+after+" seconds.")
		return
	}
	refuse(w, r, http.StatusServiceUnavailable, "too_many_greetings", "Too many machines are connecting; try again in "+after+" seconds.")
}

// refusalsEvery is how often the number of refused guests is logged.
const refusalsEvery = time.Minute

// refusals keeps refused guests from filling the log: the first refusal is logged itself, later ones as a count
// by reason.
type refusals struct {
	log *slog.Logger

	mu    sync.Mutex
	noisy bool // whether one was logged since the last summary
	count map[string]int
}

// note counts a refusal. Reasons are constants of this package, never a guest's text, so there are few.
func (r *refusals) note(ctx context.Context, reason string, err error) {
	r.mu.Lock()
	first := !r.noisy
	r.noisy = true
	if !first {
		r.count[reason]++
	}
	r.mu.Unlock()
	if first {
		r.log.WarnContext(ctx, "tunnel refused", "reason", reason, "err", err)
	}
}

// summarize logs the counts since the last summary.
func (r *refusals) summarize() {
	r.mu.Lock()
	count := r.count
	r.count, r.noisy = map[string]int{}, len(count) > 0
	r.mu.Unlock()
	if len(count) > 0 {
		r.log.Warn("tunnels refused", "in", refusalsEvery, "count", count)
	}
}

// run logs summaries until ctx ends.
func (r *refusals) run(ctx context.Context) {
	tick := time.NewTicker(refusalsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.summarize()
			return
		case <-tick.C:
			r.summarize()
		}
	}
}
