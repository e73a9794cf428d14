package operator_test

import (
	"testing"
	"testing/synctest"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Every stream hears of a copy that is too long, and the control plane passes the event on.
func TestCopied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h hand
		m := gated(t, away, &h)
		p := m.open()
		p.control(t)
		m.o.Copied(3_000_000)
		if l := p.next(); l.Event != wire.CopyEvent || string(l.Payload) != `{"bytes":3000000}` || !wire.OperatorEvent(l.Event) {
			t.Errorf("got %s %s, want %s with 3000000 bytes", l.Event, l.Payload, wire.CopyEvent)
		}
	})
}
