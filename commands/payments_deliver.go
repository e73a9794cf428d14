package commands

import "github.com/cloudbot-ai/control-plane/domain"

// Delivery is what Stripe says in a delivery whose signature was verified. It is a hint: the object that it is about is fetched
// from Stripe.
type Delivery struct {
	ID       string // "evt_…"; Stripe repeats a delivery with the same id
	Type     string // "customer.subscription.updated"
	Object   string // the object's type: "subscription"
	ObjectID string // "sub_…"; "": the object has no id
	Livemode bool   // false: it is about Stripe's test data
}

// ErrSignature refuses a delivery that was not signed with the webhook's secret, or not within five minutes.
var ErrSignature = &domain.Error{Kind: domain.Malformed, Code: "invalid_signature", Msg: "The delivery's signature is missing, wrong or too old."}
