package commands

// Delivery is what Stripe says in a delivery whose signature was verified. It is a hint: the object that it is about is fetched
// from Stripe.
type Delivery struct {
	ID       string // "evt_…"; Stripe repeats a delivery with the same id
	Type     string // "customer.subscription.updated"
	Object   string // the object's type: "subscription"
	ObjectID string // "sub_…"; "": the object has no id
	Livemode bool   // false: it is about Stripe's test data
}
