package tunnel

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// enroll takes a machine's public key in exchange for its token.
func (h *Hub) enroll(w http.ResponseWriter, r *http.Request) {
	from := h.c.ClientAddr(r)
	leave, v := h.enrolments.Take(fair.ByAddress("enrolment", from, enrolmentsOne, enrolmentsSite, enrolmentsWide)...)
	if v != fair.Taken {
		crowded(w, v, "1")
		return
	}
	defer leave()
	if v := h.enrolTries.take(fair.ByAddress("address", from, enrolTriesOne, enrolTriesSite, enrolTriesWide)...); v != fair.Taken {
		crowded(w, v, "30")
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // without it, the server's own
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, wire.MaxEnroll))
	d.DisallowUnknownFields()
	var e wire.Enroll
	if err := d.Decode(&e); err != nil || d.More() {
		problem(w, http.StatusUnprocessableEntity, "invalid_enrolment", "The enrolment request cannot be read.")
		return
	}
	if e.Token == "" || len(e.Token) > 1024 || len(e.PublicKey) != ed25519.PublicKeySize {
		problem(w, http.StatusUnprocessableEntity, "invalid_enrolment", "A token and an Ed25519 public key are needed.")
		return
	}
	if own := ofMachine(e.Token, from); own != nil {
		if v := h.ownTries.take(own...); v != fair.Taken {
			crowded(w, v, "30")
			return
		}
	}
	id, err := h.c.Machines.Enroll(r.Context(), e.Token, e.PublicKey)
	if err != nil {
		var d *domain.Error
		if errors.As(err, &d) {
			problem(w, status(d.Kind), d.Code, d.Msg)
			return
		}
		h.log.ErrorContext(r.Context(), "enrol a machine", "err", err)
		problem(w, http.StatusServiceUnavailable, "unavailable", "Enrolment is unavailable; try again in a few seconds.")
		return
	}
	h.log.InfoContext(r.Context(), "machine enrolled", "instance", id)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(wire.Enrolled{Instance: id})
}

func status(k domain.Kind) int {
	switch k {
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
	}
	return http.StatusServiceUnavailable
}

func problem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": status, "title": http.StatusText(status), "code": code, "detail": detail})
}
