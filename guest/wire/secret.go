package wire

import "log/slog"

// Secret is what a machine's services ask of who enters. It prints as a placeholder.
type Secret struct {
	VNCPassword  string
	GatewayToken string
}

func (Secret) String() string       { return "[secret]" }
func (Secret) GoString() string     { return "[secret]" }
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }
