package embedded_test

import (
	"net"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
)

// A connection may be made while the server is starting; it connects once the server is there.
func TestConnectWhileNATSStarts(t *testing.T) {
	t.Parallel()
	n, err := embedded.LaunchNATS(t.Context(), embedded.NATSConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	nc, err := n.Connect()
	if err != nil {
		t.Fatalf("got %v, want a connection that connects later", err)
	}
	defer nc.Close()
	for deadline := time.Now().Add(60 * time.Second); !nc.IsConnected(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %v, want it connected", nc.Status())
		}
	}
	if err := nc.Flush(); err != nil {
		t.Error(err)
	}
}

// A server that cannot start ends what runs it.
func TestLaunchedNATSThatCannotStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	n, err := embedded.LaunchNATS(t.Context(), embedded.NATSConfig{Dir: t.TempDir(), Listen: taken.Addr().String()})
	if err != nil {
		t.Fatalf("got %v, want it to start in the background", err)
	}
	defer n.Close()
	if err := n.Run(t.Context()); err == nil {
		t.Error("got no error, want why it does not start")
	}
}
