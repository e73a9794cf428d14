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

// What a stranger may take before it has proved anything. A fleet may be behind one address, and comes
// back at one moment after a deploy: its guests retry within seconds, so a share may be tight.
const (
	maxGreetings   = 512 // connections on their way through the greeting at once
	greetingsOne   = 64  // of them from one address
	greetingsSite  = 128
	greetingsWide  = 128
	proofTime      = 3 * time.Second // for the proof to come once the challenge went out
	maxEnrolments  = 128             // enrolments at once
	enrolmentsOne  = 16
	enrolmentsSite = 32
	enrolmentsWide = 64
	bodyTime       = 3 * time.Second // for an enrolment's body, of 8 KiB at most
)

// Tries in a minute. A guest that gets no answer asks about 20 times.
const (
	greetTries     = 60_000 // greetings of all; each looks up a machine in the log
	greetTriesOne  = 3000   // from one address: a fleet behind it, after a deploy
	greetTriesSite = 6000
	greetTriesWide = 12_000

	enrolTries     = 3000 // of all
	enrolTriesOne  = 300  // from one address
	enrolTriesSite = 600
	enrolTriesWide = 1200
	enrolTriesOwn  = 30 // for one machine from one network; for one machine alone a stranger could use them up

	connects        = 30_000 // of all, and only of guests that proved who they are
	connectsMachine = 60
	connectsAccount = 3000 // an account may have 1,000 machines, all back after a deploy
)

// tries counts by the minute: a place is given back a minute after it was taken.
type tries struct{ places *fair.Places }

func newTries(total int) tries { return tries{fair.NewPlaces(total)} }

func (t tries) take(claims ...fair.Claim) fair.Verdict {
	leave, v := t.places.Take(claims...)
	if v == fair.Taken {
		time.AfterFunc(time.Minute, leave)
	}
	return v
}

// ofMachine is the share of an enrolment's machine, from the network it comes from.
func ofMachine(token string, from netip.Addr) []fair.Claim {
	id, _, _ := strings.Cut(token, ".")
	if !wire.Word(id) {
		return nil // not a token; the address' share counts it
	}
	one := fair.ByAddress("machine "+id, from, enrolTriesOwn, enrolTriesOwn, enrolTriesOwn)
	return one[len(one)-1:]
}

// remote is a request's address where no proxy is in between.
func remote(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr()
}

// crowded answers a request for which there is no place.
func crowded(w http.ResponseWriter, r *http.Request, v fair.Verdict, after string) {
	w.Header().Set("Retry-After", after)
	if v == fair.ShareFull {
		refuse(w, r, http.StatusTooManyRequests, "too_many_from_here", "Too many machines connect from this network at once; try again in "+after+" seconds.")
		return
	}
	refuse(w, r, http.StatusServiceUnavailable, "too_many_greetings", "Too many machines connect at once; try again in "+after+" seconds.")
}

// refusalsEvery is how often the log says how many guests were refused.
const refusalsEvery = time.Minute

// refusals keeps refused guests from filling the log: the first is logged as it is, those after it as a
// count by reason.
type refusals struct {
	log *slog.Logger

	mu    sync.Mutex
	noisy bool // one was logged since the last summary
	count map[string]int
}

// note counts a refusal. Reasons are few: they are ours, never a guest's.
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

// summarize logs what was counted since the last time.
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
