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
	"github.com/cloudbot-ai/control-plane/internal/problem"
)

// enroll registers a machine's public key in exchange for its token.
func (h *Hub) enroll(w http.ResponseWriter, r *http.Request) {
	from := h.c.ClientAddr(r)
	leave, v := h.enrolments.Take(fair.ByAddress("enrolment", from, enrolmentsOne, enrolmentsSite, enrolmentsWide)...)
	if v != fair.Taken {
		crowded(w, r, v, "1")
		return
	}
	defer leave()
	if v := h.enrolTries.take(fair.ByAddress("address", from, enrolTriesOne, enrolTriesSite, enrolTriesWide)...); v != fair.Taken {
		crowded(w, r, v, "30")
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // otherwise the server's own deadline applies
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, wire.MaxEnroll))
	d.DisallowUnknownFields()
	var e wire.Enroll
	if err := d.Decode(&e); err != nil || d.More() {
		refuse(w, r, http.StatusUnprocessableEntity, "invalid_enrolment", "The enrolment request cannot be read.")
		return
	}
	if e.Token == "" || len(e.Token) > 1024 || len(e.PublicKey) != ed25519.PublicKeySize {
		refuse(w, r, http.StatusUnprocessableEntity, "invalid_enrolment", "The enrolment request needs a token and an Ed25519 public key.")
		return
	}
	if own := ofMachine(e.Token, from); own != nil {
		if v := h.ownTries.take(own...); v != fair.Taken {
			crowded(w, r, v, "30")
			return
		}
	}
	id, err := h.c.Machines.Enroll(r.Context(), e.Token, e.PublicKey)
	if err != nil {
		var d *domain.Error
		if errors.As(err, &d) {
			problem.Write(w, r, problem.Of(d))
			return
		}
		h.log.ErrorContext(r.Context(), "enrolment failed", "err", err)
		refuse(w, r, http.StatusServiceUnavailable, "unavailable", "Enrolment is unavailable; try again in a few seconds.")
		return
	}
	h.log.InfoContext(r.Context(), "machine enrolled", "instance", id)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(wire.Enrolled{Instance: id})
}

// refuse answers a request of a guest or of another replica.
func refuse(w http.ResponseWriter, r *http.Request, status int, code, detail string) {
	problem.Write(w, r, problem.Problem{Status: status, Code: code, Detail: detail})
}
