package httpapi

import (
	"io"
	"net/http"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
)

// webhookPath is where Stripe sends messages.
const webhookPath = "/api/payments/webhook"

// maxDelivery bounds a message of Stripe, in bytes.
const maxDelivery = 512 << 10

var (
	errDeliveryTooLarge = &refusal{status: 413, code: "body_too_large", detail: "The message is too large; the limit is " + strconv.Itoa(maxDelivery) + " bytes."}
	errDeliveryMode     = &refusal{status: 400, code: "wrong_mode", detail: "The message is about Stripe's test data and the server's key is for real payments, or the other way round."}
	errDeliveryLater    = &refusal{status: 503, code: "payments_unavailable", detail: "The message could not be handled; send it again.", retryAfter: 60, expected: true}
)

// webhook handles a message of Stripe. Its signature is over the body as it was sent, so that is verified before anything in
// it is read. The message itself is not believed: see commands.Payments.Deliver.
func (s *Server) webhook(c echo.Context) error {
	p := s.cfg.Payments
	if p == nil {
		return errNoPayments
	}
	r := c.Request()
	body, err := io.ReadAll(r.Body) // collect has read it
	if err != nil {
		return err
	}
	signature := ""
	if values := r.Header.Values("Stripe-Signature"); len(values) == 1 {
		signature = values[0]
	}
	d, err := p.Verify(body, signature, s.cfg.Now())
	if err != nil {
		return err
	}
	if d.Livemode != p.Live {
		s.cfg.Logger.Warn("Stripe's message refused: it is of the other mode than STRIPE_SECRET_KEY", "delivery", d.ID, "type", d.Type, "live", d.Livemode)
		return errDeliveryMode
	}
	done, err := p.Deliver(r.Context(), d)
	if err != nil {
		s.cfg.Logger.Warn("Stripe's message not handled, Stripe will repeat it", "delivery", d.ID, "type", d.Type, "err", err)
		return errDeliveryLater
	}
	return c.JSON(http.StatusOK, struct {
		Status commands.Delivered `json:"status"`
	}{done})
}
