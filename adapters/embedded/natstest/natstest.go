// Package natstest gives each test a NATS server of its own with JetStream, inside the process,
// that can be stopped, wiped and started again under the feet of what is tested.
package natstest

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
)

// Server is a test's NATS. It ends with the test.
type Server struct {
	Conn *nats.Conn          // reconnects by itself when the server comes back
	JS   jetstream.JetStream // on Conn

	dir string
	mu  sync.Mutex
	at  *embedded.NATS // nil while stopped
}

// New starts a server without a listener.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{dir: t.TempDir()}
	t.Cleanup(s.Stop)
	s.Start(t)
	s.Conn = s.Connect(t)
	s.JS = JetStream(t, s.Conn)
	return s
}

// Connect opens one more connection, closed when the test ends.
func (s *Server) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(s), nats.MaxReconnects(-1),
		nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0))
	if err != nil {
		t.Fatalf("connect to the test's NATS: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// JetStream is the JetStream context of a connection, with timeouts that suit a test.
func JetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		t.Fatalf("the test's JetStream: %v", err)
	}
	return js
}

// Start starts the server again after Stop, with the files it had.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	n, err := embedded.StartNATS(context.Background(), embedded.NATSConfig{Dir: s.dir})
	if err != nil {
		t.Fatalf("the test's NATS: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = n
}

// Stop stops the server; connections stay and wait for it.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at != nil {
		_ = s.at.Close()
		s.at = nil
	}
}

// Wipe removes the files of a stopped server.
func (s *Server) Wipe(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at != nil {
		t.Fatal("wipe: the server runs")
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "store")); err != nil {
		t.Fatal(err)
	}
}

// InProcessConn lets connections find whichever server runs now.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		return nil, errors.New("the test's NATS is stopped")
	}
	return s.at.InProcessConn()
}
