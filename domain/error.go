// Package domain holds what the deciders share: the error type, and the table of an aggregate's events. The deciders
// are the packages below it, which import only the standard library and this package.
package domain

// Kind is the kind of a refusal; the HTTP front maps each kind to one status.
type Kind int

const (
	Invalid         Kind = iota + 1 // the request is not valid: 422
	Unauthenticated                 // not logged in: 401
	Forbidden                       // not allowed: 403
	NotFound                        // does not exist, or belongs to another account: 404
	Conflict                        // impossible in the current state: 409
	Exhausted                       // too many tries, retry later: 429
	Unavailable                     // a required service is unavailable: 503
	Malformed                       // the request cannot be understood: 400
	PaymentRequired                 // needs a plan, or a payment: 402
)

// Error is a refusal. Code is stable and for programs, Msg a sentence for people. Field names the field of the request
// that was refused, or is "". Compare with errors.Is against the sentinels of the package that refuses.
type Error struct {
	Kind  Kind
	Code  string
	Msg   string
	Field string
}

func (e *Error) Error() string { return e.Msg }
