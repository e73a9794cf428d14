package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

func (s *Server) createCheckout(c echo.Context, who access.Claims) error {
	var plan, success, cancel string
	if err := readBody(c, field{name: "plan_type", into: &plan}, field{name: "success_url", into: &success}, field{name: "cancel_url", into: &cancel}); err != nil {
		return err
	}
	if billing.Plan(plan).Offer().Plan == "" {
		return billing.ErrUnknownPlan
	}
	if s.cfg.Payments == nil {
		return errNoPayments
	}
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	to, session, err := s.cfg.Payments.Checkout(c.Request().Context(), o, billing.Plan(plan), success, cancel)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		URL     string `json:"checkout_url"`
		Session string `json:"session_id"`
	}{to, session})
}

type messageView struct {
	Message string `json:"message"`
}

func (s *Server) cancelSubscription(c echo.Context, who access.Claims) error {
	return s.changeSubscription(c, who, (*commands.Payments).CancelAtPeriodEnd, func(sub billing.Subscription) string {
		return "Your plan ends on " + day(sub.CancelAt) + ". Until then, you can use it as before."
	})
}

func (s *Server) resumeSubscription(c echo.Context, who access.Claims) error {
	return s.changeSubscription(c, who, (*commands.Payments).Resume, func(sub billing.Subscription) string {
		return "Your plan continues. It renews on " + day(sub.PeriodEnd) + "."
	})
}

func (s *Server) changeSubscription(
	c echo.Context, who access.Claims, change func(*commands.Payments, context.Context, commands.Origin) (billing.Subscription, error), say func(billing.Subscription) string,
) error {
	if err := readBody(c); err != nil {
		return err
	}
	if s.cfg.Payments == nil {
		return errNoPayments
	}
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	sub, err := change(s.cfg.Payments.Payments, c.Request().Context(), o)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, messageView{say(sub)})
}

func day(t time.Time) string { return t.UTC().Format("2 January 2006 (UTC)") }

func (s *Server) openPortal(c echo.Context, who access.Claims) error {
	var back string
	if err := readBody(c, field{name: "return_url", into: &back}); err != nil {
		return err
	}
	if s.cfg.Payments == nil {
		return errNoPayments
	}
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	to, err := s.cfg.Payments.Portal(c.Request().Context(), o, back)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		URL string `json:"portal_url"`
	}{to})
}

type invoiceView struct {
	ID          string     `json:"id"`
	Number      *string    `json:"number"`
	Status      string     `json:"status"`
	Due         int64      `json:"amount_due"`
	Paid        int64      `json:"amount_paid"`
	Currency    string     `json:"currency"`
	PeriodStart time.Time  `json:"period_start"`
	PeriodEnd   time.Time  `json:"period_end"`
	CreatedAt   time.Time  `json:"created_at"`
	NextAttempt *time.Time `json:"next_attempt_at"`
	URL         *string    `json:"url"`
	PDF         *string    `json:"pdf_url"`
}

// invoices returns the account's invoices as Stripe shows them. Their URLs are nowhere stored.
func (s *Server) invoices(c echo.Context, who access.Claims) error {
	views := []invoiceView{}
	if s.cfg.Payments != nil {
		o, err := s.origin(c, who)
		if err != nil {
			return err
		}
		list, err := s.cfg.Payments.Invoices(c.Request().Context(), o)
		if err != nil {
			return err
		}
		for _, i := range list {
			views = append(views, invoiceView{
				ID: i.ID, Number: orNull(i.Number), Status: i.Status, Due: i.Due, Paid: i.Paid, Currency: i.Currency,
				PeriodStart: i.PeriodStart.UTC(), PeriodEnd: i.PeriodEnd.UTC(), CreatedAt: i.Created.UTC(), NextAttempt: timeOrNull(i.NextAttempt),
				URL: orNull(i.URL), PDF: orNull(i.PDF),
			})
		}
	}
	return c.JSON(http.StatusOK, struct {
		Invoices []invoiceView `json:"invoices"`
	}{views})
}
