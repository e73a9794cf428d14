package audit

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("audit",
	domain.As[LogInFailed, Event]("audit.log_in_failed"),
	domain.As[KeysHandedOut, Event]("audit.keys_handed_out"),
	domain.As[DiagnosticsRead, Event]("audit.diagnostics_read"),
)
