package billing

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("billing",
	domain.As[PlanGranted, Event]("billing.plan_granted"),
	domain.As[PlanWithdrawn, Event]("billing.plan_withdrawn"),
	domain.As[CheckoutRequested, Event]("billing.checkout_requested"),
	domain.As[CheckoutSeen, Event]("billing.checkout_seen"),
	domain.As[CheckoutLost, Event]("billing.checkout_lost"),
	domain.As[SubscriptionSeen, Event]("billing.subscription_seen"),
	domain.As[InvoiceSeen, Event]("billing.invoice_seen"),
	domain.As[AccessSet, Event]("billing.access_set"),
	domain.As[UsageReported, Event]("billing.usage_reported"),
	domain.As[UsageSettled, Event]("billing.usage_settled"),
)
