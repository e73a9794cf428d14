// Package natstest gives each test its own NATS server with JetStream, inside the process. A test can stop, wipe and
// restart it while the tested code uses it.
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

// Server is the NATS of a test. It ends with the test.
type Server struct {
	Conn *nats.Conn          // reconnects when the server is back
	JS   jetstream.JetStream // on Conn

	dir string
	max int64
	mu  sync.Mutex
	at  *embedded.NATS // nil while stopped
}

// New starts a server without a listener.
func New(t testing.TB) *Server {
	t.Helper()
	return NewIn(t, t.TempDir(), 0)
}

// NewIn is like New, in a folder and with a limit of JetStream's bytes on disk; 0: most of the free space.
func NewIn(t testing.TB, dir string, maxStore int64) *Server {
	t.Helper()
	s := &Server{dir: dir, max: maxStore}
	t.Cleanup(s.Stop)
	s.Start(t)
	s.Conn = s.Connect(t)
	s.JS = JetStream(t, s.Conn)
	return s
}

// Connect opens another connection, closed when the test ends.
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

// JetStream returns the JetStream context of a connection, with timeouts for tests.
func JetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		t.Fatalf("the test's JetStream: %v", err)
	}
	return js
}

// Start restarts the server after Stop, with its old files.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	n, err := embedded.StartNATS(context.Background(), embedded.NATSConfig{Dir: s.dir, MaxStore: s.max})
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

// Break removes a stream's files under the running server, so that it cannot write the next one.
func (s *Server) Break(t testing.TB, stream string) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(s.dir, "store", "jetstream", "*", "streams", stream, "msgs"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("break %s: %v, %v", stream, dirs, err)
	}
	if err := os.RemoveAll(dirs[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dirs[0], nil, 0o600); err != nil { // so that it cannot be created again
		t.Fatal(err)
	}
}

// InProcessConn connects to the server that currently runs.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		return nil, errors.New("the test's NATS is stopped")
	}
	return s.at.InProcessConn()
}
