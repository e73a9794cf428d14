package audit

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is what the events are called on the wire.
var Codec = domain.NewCodec("audit",
	domain.As[LogInFailed, Event]("audit.log_in_failed"),
	domain.As[KeysHandedOut, Event]("audit.keys_handed_out"),
	domain.As[DiagnosticsRead, Event]("audit.diagnostics_read"),
)
