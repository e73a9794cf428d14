package wire

import "log/slog"

// Secret is a password that a machine's services require. It prints as a placeholder.
type Secret struct {
	VNCPassword  string
	GatewayToken string
}

func (Secret) String() string       { return "[secret]" }
func (Secret) GoString() string     { return "[secret]" }
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }
