// Package fair divides a bounded resource among strangers, so that none of them can take all of it: each
// address, network, account or machine has a share, beside the total bound.
package fair

import (
	"net/netip"
	"slices"
	"sync"
)

// Claim is one share that a place counts against: at most Max places can be taken under Key.
type Claim struct {
	Key string
	Max int
}

// ByAddress returns the claims of an address under a name. A customer may own an IPv6 /64, /56 or /48,
// and can send from every address of it: one bounds the /64 (for IPv4 the address), site the /56, and
// network the /48 (for IPv4 the /24). All invalid addresses share one claim.
func ByAddress(name string, a netip.Addr, one, site, network int) []Claim {
	a = a.Unmap().WithZone("")
	bits := []int{64, 56, 48}
	limits := []int{one, site, network}
	switch {
	case !a.IsValid():
		return []Claim{{name + "|unknown", one}}
	case a.Is4():
		bits, limits = []int{32, 24}, []int{one, network}
	}
	claims := make([]Claim, len(bits))
	for i, b := range bits {
		p, _ := a.Prefix(b)
		claims[i] = Claim{name + "|" + p.String(), limits[i]}
	}
	return claims
}

// ByRegion returns the claim of an address's region, an IPv6 /32 or an IPv4 /16: a provider, or a good part
// of one, whose customers can have any number of networks. An invalid address has no region.
func ByRegion(name string, a netip.Addr, region int) []Claim {
	bits := 32
	if a = a.Unmap().WithZone(""); a.Is4() {
		bits = 16
	}
	p, err := a.Prefix(bits)
	if err != nil || !a.IsValid() {
		return nil
	}
	return []Claim{{name + "|" + p.String(), region}}
}

// Verdict says how a Take ended.
type Verdict int

// Verdicts.
const (
	Taken     Verdict = iota
	ShareFull         // one of the claims is used up; other callers can still get places
	Full              // all places are taken
	Late              // the wait for a place took too long
)

// Places are a number of places, counted by claims. NewPlaces makes one.
type Places struct {
	total int
	mu    sync.Mutex
	taken int
	by    map[string]int
}

// NewPlaces makes total places.
func NewPlaces(total int) *Places { return &Places{total: total, by: map[string]int{}} }

// Take takes a place under all the claims, or none. leave gives it back, once; it is nil unless the verdict
// is Taken.
func (p *Places) Take(claims ...Claim) (leave func(), v Verdict) { return p.TakeN(1, claims...) }

// TakeN takes n places at once, for a resource that is counted in bytes.
func (p *Places) TakeN(n int, claims ...Claim) (leave func(), v Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range claims {
		if p.by[c.Key]+n > c.Max {
			return nil, ShareFull
		}
	}
	if p.taken+n > p.total {
		return nil, Full
	}
	p.taken += n
	for _, c := range claims {
		p.by[c.Key] += n
	}
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken -= n
		for _, c := range claims {
			if p.by[c.Key] -= n; p.by[c.Key] == 0 {
				delete(p.by, c.Key)
			}
		}
	}), Taken
}

// fullAt returns the index of the last claim that has no room for one more; −1: no claim is full.
func (p *Places) fullAt(claims []Claim) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, c := range slices.Backward(claims) {
		if p.by[c.Key] >= c.Max {
			return i
		}
	}
	return -1
}

// Used returns how many places are taken, and under how many keys.
func (p *Places) Used() (places, keys int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken, len(p.by)
}
