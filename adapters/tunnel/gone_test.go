package tunnel

import (
	"net"
	"testing"
)

// A replica whose host is gone does not answer, not even with a refusal, and its presence has not expired yet.
// Its guests can connect to another replica meanwhile, within one greeting.
func TestGuestsOfDeadHostGetIn(t *testing.T) {
	t.Parallel()
	dead, err := net.Listen("tcp", "127.0.0.1:0") // data sent there waits in the system's queue
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	m := newMachines(t)
	p := &presence{who: map[string]string{id: "http://" + dead.Addr().String()}}
	r := newReplica(t, m, p)
	connect(t, m.hostile(r.url, ""))
}
