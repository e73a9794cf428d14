// Package domain holds what the deciders share: the one error type. The deciders themselves are
// the packages below it; they import nothing but the standard library and this.
package domain

// Kind says what sort of refusal an Error is; the HTTP front maps each kind to one status.
type Kind int

const (
	Invalid         Kind = iota + 1 // the request makes no sense: 422
	Unauthenticated                 // who are you: 401
	Forbidden                       // known, and not allowed: 403
	NotFound                        // not there, or not yours: 404
	Conflict                        // impossible from the present state: 409
	Exhausted                       // too many tries, come back later: 429
	Unavailable                     // a part we need is not there just now: 503
)

// Error is a refusal. Code is stable and for programs, Msg one sentence for people; Field names the
// field of the request that it is about, "" for none.
// Compare with errors.Is against the sentinels of the package that refuses.
type Error struct {
	Kind  Kind
	Code  string
	Msg   string
	Field string
}

func (e *Error) Error() string { return e.Msg }
