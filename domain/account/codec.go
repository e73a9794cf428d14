package account

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("account",
	domain.As[SignedUp, Event]("account.signed_up"),
	domain.As[PasswordChanged, Event]("account.password_changed"),
	domain.As[PasswordRehashed, Event]("account.password_rehashed"),
	domain.As[Suspended, Event]("account.suspended"),
	domain.As[Resumed, Event]("account.resumed"),
	domain.As[IdlePolicySet, Event]("account.idle_policy_set"),
)
