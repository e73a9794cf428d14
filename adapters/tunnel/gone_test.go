package tunnel

import (
	"net"
	"testing"
)

// A replica whose host is gone answers nothing, not even a refusal, and its presence stands for a while yet. Its
// guests get in at another replica meanwhile, within one greeting.
func TestGuestsOfDeadHostGetIn(t *testing.T) {
	t.Parallel()
	dead, err := net.Listen("tcp", "127.0.0.1:0") // what is sent there waits in the system's queue
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	m := newMachines(t)
	p := &presence{who: map[string]string{id: "http://" + dead.Addr().String()}}
	r := newReplica(t, m, p)
	connect(t, m.hostile(r.url, ""))
}
