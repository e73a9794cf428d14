package fair

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Visitor is what a Queue knows about a caller.
type Visitor struct {
	Addr netip.Addr
	// Known names what the caller has proven to belong to, such as the account that its device logged in to
	// before. Known callers wait in a lane of their own, by name within each address. "": a stranger.
	Known string
}

type visitorKey struct{}

// With returns a ctx that carries the caller, down to the queue that the call waits in.
func With(ctx context.Context, v Visitor) context.Context {
	return context.WithValue(ctx, visitorKey{}, v)
}

// VisitorOf returns the caller that With set; without one, a stranger without an address.
func VisitorOf(ctx context.Context) Visitor {
	v, _ := ctx.Value(visitorKey{}).(Visitor)
	return v
}

// QueueConfig sets a queue's size. Every field is required.
type QueueConfig struct {
	Run                int           // callers that work at a time
	Wait, WaitKnown    int           // strangers and known callers that wait; half of each at most of one region, an IPv6 /32 or an IPv4 /16
	One, Site, Network int           // of both those of one address, site and network, see ByAddress
	EachKnown          int           // known callers that wait, by name
	Patience           time.Duration // longest wait
}

// Queue lets a few callers work at a time and keeps a bounded number waiting. Turns rotate: from region to
// region, within one from network to network, then from site to site and from address to address. So a
// caller waits for the other regions and networks, however many calls they make. If too many wait, the latest
// call of the region, network or address with the most calls gives way to one with fewer.
type Queue struct {
	cfg QueueConfig

	mu             sync.Mutex
	working        int
	known, strange lane
	inARow         int // turns of known callers since the last stranger's
}

// knownInARow is how many known callers have a turn before a waiting stranger does, so that neither lane
// starves.
const knownInARow = 3

type lane struct {
	places *Places
	root   branch
}

// branch is a network with waiters in it; at the end, an address.
type branch struct {
	key     string
	below   []*branch // the one whose turn is next comes first
	waiters []*waiter
}

type waiter struct {
	turn    chan struct{} // closed when the turn has come, or when the waiter had to give way
	verdict Verdict       // how the wait ended
	leave   func()        // gives back the place in the queue
}

// NewQueue makes a Queue.
func NewQueue(cfg QueueConfig) *Queue {
	return &Queue{cfg: cfg, known: lane{places: NewPlaces(cfg.WaitKnown)}, strange: lane{places: NewPlaces(cfg.Wait)}}
}

// Enter waits for a turn; if the verdict is Taken, the caller must end it by Leave. ShareFull or Full say that
// too many wait, immediately or when another caller got the place. Late says that ctx or the patience ended.
func (q *Queue) Enter(ctx context.Context, v Visitor) Verdict {
	if ctx.Err() != nil {
		return Late
	}
	q.mu.Lock()
	if q.working < q.cfg.Run {
		q.working++
		q.mu.Unlock()
		return Taken
	}
	in, claims := q.lane(v)
	left, verdict := in.places.Take(claims...)
	if verdict != Taken && in.makeRoom(claims, verdict) {
		left, verdict = in.places.Take(claims...)
	}
	if verdict != Taken {
		q.mu.Unlock()
		return verdict
	}
	w := &waiter{turn: make(chan struct{}), leave: left}
	in.root.add(w, claims)
	q.mu.Unlock()

	patience := time.NewTimer(q.cfg.Patience)
	defer patience.Stop()
	select {
	case <-w.turn:
		return w.verdict
	case <-patience.C:
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.turn: // at the same moment
		return w.verdict
	default:
		in.root.remove(w, claims)
		w.leave()
		return Late
	}
}

// lane returns where a visitor waits and under which claims, the widest first.
func (q *Queue) lane(v Visitor) (*lane, []Claim) {
	in, all := &q.strange, q.cfg.Wait
	claims := ByAddress("", v.Addr, q.cfg.One, q.cfg.Site, q.cfg.Network)
	if v.Known != "" {
		in, all = &q.known, q.cfg.WaitKnown
		claims = append([]Claim{{"known|" + v.Known, q.cfg.EachKnown}}, claims...)
	}
	claims = append(claims, ByRegion("region", v.Addr, all/2)...)
	slices.Reverse(claims)
	return in, claims
}

// Leave ends one turn and begins the next.
func (q *Queue) Leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	from := &q.strange
	if q.inARow++; !q.known.root.empty() && (q.inARow <= knownInARow || from.root.empty()) {
		from = &q.known
	} else {
		q.inARow = 0
	}
	if from.root.empty() {
		q.working--
		return
	}
	w := from.root.next()
	w.leave()
	close(w.turn)
}

// Used returns how many work, and how many wait: strangers and known callers.
func (q *Queue) Used() (working, strangers, known int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	strangers, _ = q.strange.places.Used()
	known, _ = q.known.places.Used()
	return q.working, strangers, known
}

// makeRoom evicts a waiter in favour of a newcomer under claims, and reports whether it did. The waiter comes
// from the part of the queue that was full for the newcomer, and only if that part still has more waiters than
// the newcomer's own afterwards.
func (l *lane) makeRoom(claims []Claim, verdict Verdict) bool {
	b, full := &l.root, l.places.fullAt(claims)
	for i, c := range claims {
		own := b.find(c.Key)
		if most := b.largest(); i > full && own.size()+1 < most.size() {
			w := most.evict()
			w.verdict = verdict
			w.leave()
			close(w.turn)
			return true
		}
		if own == nil {
			return false
		}
		b = own
	}
	return false
}

func (b *branch) find(key string) *branch {
	if i := slices.IndexFunc(b.below, func(b *branch) bool { return b.key == key }); i >= 0 {
		return b.below[i]
	}
	return nil
}

// size returns how many wait in a branch, which may be nil.
func (b *branch) size() int {
	if b == nil {
		return 0
	}
	n := len(b.waiters)
	for _, c := range b.below {
		n += c.size()
	}
	return n
}

// largest returns the branch below with the most waiters, of equal ones the last; nil if there is none.
func (b *branch) largest() (most *branch) {
	for _, c := range b.below {
		if c.size() >= most.size() {
			most = c
		}
	}
	return most
}

// evict removes and returns the latest waiter of the largest branch.
func (b *branch) evict() *waiter {
	most := b.largest()
	if most == nil {
		w := b.waiters[len(b.waiters)-1]
		b.waiters = b.waiters[:len(b.waiters)-1]
		return w
	}
	w := most.evict()
	if most.empty() {
		b.below = slices.DeleteFunc(b.below, func(c *branch) bool { return c == most })
	}
	return w
}

func (b *branch) empty() bool { return len(b.below) == 0 && len(b.waiters) == 0 }

func (b *branch) add(w *waiter, path []Claim) {
	if len(path) == 0 {
		b.waiters = append(b.waiters, w)
		return
	}
	i := slices.IndexFunc(b.below, func(b *branch) bool { return b.key == path[0].Key })
	if i < 0 {
		i = len(b.below)
		b.below = append(b.below, &branch{key: path[0].Key})
	}
	b.below[i].add(w, path[1:])
}

// next removes and returns the waiter whose turn it is. Its branch then moves to the end of the rotation.
func (b *branch) next() *waiter {
	if len(b.below) == 0 {
		w := b.waiters[0]
		b.waiters = b.waiters[1:]
		return w
	}
	first := b.below[0]
	w := first.next()
	b.below = b.below[1:]
	if !first.empty() {
		b.below = append(b.below, first)
	}
	return w
}

func (b *branch) remove(w *waiter, path []Claim) {
	if len(path) == 0 {
		b.waiters = slices.DeleteFunc(b.waiters, func(o *waiter) bool { return o == w })
		return
	}
	i := slices.IndexFunc(b.below, func(b *branch) bool { return b.key == path[0].Key })
	if b.below[i].remove(w, path[1:]); b.below[i].empty() {
		b.below = slices.Delete(b.below, i, i+1)
	}
}
