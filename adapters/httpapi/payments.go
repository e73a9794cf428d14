package httpapi

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// Payments is what the front needs where plans are required, and paid at Stripe.
type Payments struct {
	*commands.Payments
	Verify  Verify
	Live    bool        // payments are real: messages about Stripe's test data are refused
	Key     string      // Stripe's key for browsers
	Metered bool        // new subscriptions also pay for the time that desktops run
	Board   *PriceBoard // what the plans cost
}

// Verify returns what a message of Stripe says; an error if Stripe did not sign this body at about this time.
type Verify func(body []byte, signature string, now time.Time) (commands.Delivery, error)

var errNoPayments = &refusal{status: 503, code: "payments_not_configured", detail: "Plans cannot be bought on this server, and none is needed.", expected: true}

type offerView struct {
	Name       string         `json:"name"`
	Type       string         `json:"instance_type"`
	MaxWorkers int            `json:"max_workers"`
	Available  bool           `json:"available"`
	Price      *planPriceView `json:"price"`
}

type planPriceView struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
	Interval string `json:"interval"`
}

// paymentsConfig says which plans there are. It asks Stripe nothing, because anyone may call it.
func (s *Server) paymentsConfig(c echo.Context) error {
	p := s.cfg.Payments
	v := struct {
		Configured bool                       `json:"configured"`
		Key        *string                    `json:"publishable_key"`
		DevMode    bool                       `json:"dev_mode"`
		Plans      map[billing.Plan]offerView `json:"plans"`
		Metered    bool                       `json:"metered"`
	}{Configured: p != nil, DevMode: p == nil, Plans: map[billing.Plan]offerView{}}
	for _, o := range billing.Offers {
		v.Plans[o.Plan] = offerView{Name: o.Name, Type: o.Type, MaxWorkers: o.Desktops}
	}
	if p == nil {
		return c.JSON(http.StatusOK, v)
	}
	v.Key, v.Metered = &p.Key, p.Metered
	for id, plan := range p.Prices {
		o := v.Plans[plan]
		o.Available, o.Price = true, p.Board.price(id)
		v.Plans[plan] = o
	}
	return c.JSON(http.StatusOK, v)
}

func (s *Server) subscription(c echo.Context, who access.Claims) error {
	now, err := s.cfg.Instances.Overview(c.Request().Context(), who.Account)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, viewSubscription(now))
}

func (s *Server) paymentsStatus(c echo.Context, who access.Claims) error {
	now, err := s.cfg.Instances.Overview(c.Request().Context(), who.Account)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, s.viewStatus(now))
}

// syncPayments looks at Stripe for the caller's account, before a message of Stripe's may have arrived.
func (s *Server) syncPayments(c echo.Context, who access.Claims) error {
	if err := readBody(c); err != nil {
		return err
	}
	if s.cfg.Payments != nil {
		o, err := s.origin(c, who)
		if err != nil {
			return err
		}
		if err := s.cfg.Payments.Sync(c.Request().Context(), o); err != nil {
			return err
		}
	}
	return s.paymentsStatus(c, who)
}

// paying is writes for requests that call Stripe: an account has a budget of its own for them.
func (s *Server) paying(h handler) echo.HandlerFunc {
	return s.writes(func(c echo.Context, who access.Claims) error {
		if err := s.throttleHere(s.cfg.Limits.Payments, "payments:"+who.Account); err != nil {
			return err
		}
		return h(c, who)
	})
}
