// Package problem writes refusals as application/problem+json (RFC 9457): every error that a client
// reads as JSON, from every listener, is written here.
//
// The one thing to know: Status is the only mapping of a domain.Kind to an HTTP status.
package problem

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Header carries the request's ID in requests and answers.
const Header = "X-Request-Id"

// Problem is one refusal. Status, Code and Detail are required; Write fills in what else is empty.
type Problem struct {
	Type      string `json:"type"`  // "": about:blank
	Title     string `json:"title"` // "": the status in words
	Status    int    `json:"status"`
	Detail    string `json:"detail"`             // a sentence for people
	Code      string `json:"code"`               // stable, for programs
	RequestID string `json:"request_id"`         // "": the one of the answer's header
	Instance  string `json:"instance,omitempty"` // the path that was asked for; "": the request's
	Field     string `json:"field,omitempty"`    // of the request that the problem is about; "": none

	RetryAfter time.Duration `json:"-"` // rounded up to seconds; 0: no Retry-After header
}

// Status returns the HTTP status of a kind of refusal; 500 for a kind it does not know.
func Status(kind domain.Kind) int {
	switch kind {
	case domain.Malformed:
		return http.StatusBadRequest
	case domain.PaymentRequired:
		return http.StatusPaymentRequired
	case domain.Invalid:
		return http.StatusUnprocessableEntity
	case domain.Unauthenticated:
		return http.StatusUnauthorized
	case domain.Forbidden:
		return http.StatusForbidden
	case domain.NotFound:
		return http.StatusNotFound
	case domain.Conflict:
		return http.StatusConflict
	case domain.Exhausted:
		return http.StatusTooManyRequests
	case domain.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Of returns the problem of a domain error.
func Of(err *domain.Error) Problem {
	return Problem{Status: Status(err.Kind), Code: err.Code, Detail: err.Msg, Field: err.Field}
}

// maxPath bounds the path that a problem repeats, in bytes.
const maxPath = 200

// Write answers r with p. Headers that were set before stay.
func Write(w http.ResponseWriter, r *http.Request, p Problem) {
	p.Type = cmp.Or(p.Type, "about:blank")
	p.Title = cmp.Or(p.Title, http.StatusText(p.Status))
	p.RequestID = cmp.Or(p.RequestID, requestID(w, r))
	p.Instance = cmp.Or(p.Instance, r.URL.Path)
	p.Instance = p.Instance[:min(len(p.Instance), maxPath)]
	body, _ := json.Marshal(p) // a struct of strings and a number always encodes
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// requestID returns the ID that the answer already has, or gives it one: the client's own if it is valid.
func requestID(w http.ResponseWriter, r *http.Request) string {
	id := w.Header().Get(Header)
	if id != "" {
		return id
	}
	if id = r.Header.Get(Header); !ValidRequestID(id) {
		id = rand.Text()
	}
	w.Header().Set(Header, id)
	return id
}

// ValidRequestID reports whether a client's request ID is safe in headers, logs and events.
func ValidRequestID(id string) bool {
	if len(id) < 8 || len(id) > 64 {
		return false
	}
	for _, r := range id {
		if !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_' || r == '.') {
			return false
		}
	}
	return true
}
