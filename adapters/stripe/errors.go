package stripe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"

	"github.com/stripe/stripe-go/v85"

	"github.com/cloudbot-ai/control-plane/commands"
)

// missing is Stripe's code for an object that does not exist.
const missing = stripe.ErrorCodeResourceMissing

// errAnswer is an answer that is not Stripe's, such as a proxy's page. Its text is not repeated: it may have anything in it.
var errAnswer = errors.New("the answer could not be read")

// outcome returns what an error of stripe-go proves.
func outcome(err error) error {
	var answer *stripe.Error
	if !errors.As(err, &answer) {
		return unsure(err)
	}
	reason := keys.ReplaceAllString(answer.Msg, "(key)")
	switch status := answer.HTTPStatusCode; {
	case status == http.StatusNotFound && answer.Code == missing:
		return commands.ErrNotAtStripe
	case status == http.StatusTooManyRequests, status < 400, status >= 500,
		answer.Code == stripe.ErrorCodeIdempotencyKeyInUse, answer.Code == stripe.ErrorCodeLockTimeout:
		return fmt.Errorf("call Stripe: status %d, %s (%s)", status, reason, codeOf(answer))
	case answer.Type == stripe.ErrorTypeIdempotency:
		// An earlier call had the same key and other fields. That one may have had its effect.
		return fmt.Errorf("call Stripe: the key is known from another call: %s", reason)
	}
	return &commands.RefusedError{Code: codeOf(answer), Reason: reason}
}

func codeOf(e *stripe.Error) string {
	if e.Code != "" {
		return string(e.Code)
	}
	return string(e.Type)
}

// keys are Stripe's keys, which its messages show in part.
var keys = regexp.MustCompile(`\b(sk|rk|pk|whsec)_[A-Za-z0-9_*]+`)

// unsure returns an error that may say anything, without what stripe-go puts into it: URLs and whole answers.
func unsure(err error) error {
	var (
		request *url.Error
		network net.Error
	)
	switch {
	case errors.As(err, &request):
		return fmt.Errorf("call Stripe: %w", request.Err)
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("call Stripe: %w", err)
	}
	return fmt.Errorf("call Stripe: %w", errAnswer)
}
