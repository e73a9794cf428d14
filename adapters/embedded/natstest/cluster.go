package natstest

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Cluster is a test's cluster of real NATS servers with JetStream on loopback. It ends with the test.
type Cluster struct {
	options []*server.Options

	mu      sync.Mutex
	servers []*server.Server // nil: stopped
}

// NewCluster starts n servers and waits until they agree on a leader.
func NewCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{servers: make([]*server.Server, n)}
	ports := freePorts(t, 2*n)
	var routes []*url.URL
	for _, port := range ports[n:] {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", port)})
	}
	dir := t.TempDir()
	for i := range n {
		name := fmt.Sprintf("n%d", i)
		c.options = append(c.options, &server.Options{
			ServerName: name, Host: "127.0.0.1", Port: ports[i], NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: filepath.Join(dir, name), JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: 1 << 30,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[n+i]}, Routes: routes,
		})
	}
	t.Cleanup(func() {
		for i := range n {
			c.Stop(i)
		}
	})
	for i := range n {
		c.Start(t, i)
	}
	c.settle(t, c.known)
	return c
}

// known reports whether the servers are settled and the leader has counted all of them. Before that, the rest of a cluster that
// loses a server may elect none.
func (c *Cluster) known() bool {
	if !c.settled() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		if s.JetStreamIsLeader() {
			return len(s.JetStreamClusterPeers()) == len(c.servers)
		}
	}
	return false
}

// freePorts returns ports that are free at the time of the call.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // only at the end, so that no two are the same
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// Len returns the number of servers, including stopped ones.
func (c *Cluster) Len() int { return len(c.options) }

// URL lists all servers, as NATS_URL does.
func (c *Cluster) URL() string {
	var all []string
	for _, o := range c.options {
		all = append(all, fmt.Sprintf("nats://%s:%d", o.Host, o.Port))
	}
	return strings.Join(all, ",")
}

// Start starts a stopped server with its old files.
func (c *Cluster) Start(t testing.TB, i int) {
	t.Helper()
	s, err := server.NewServer(c.options[i].Clone())
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	c.mu.Lock()
	c.servers[i] = s
	c.mu.Unlock()
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatalf("NATS server %d of the cluster did not start", i)
	}
}

// Stop stops a server; its files stay.
func (c *Cluster) Stop(i int) {
	c.mu.Lock()
	s := c.servers[i]
	c.servers[i] = nil
	c.mu.Unlock()
	if s != nil {
		stop(s)
	}
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// Settle waits until the running servers have a leader, and each of them is up to date with it.
func (c *Cluster) Settle(t testing.TB) {
	t.Helper()
	c.settle(t, c.settled)
}

func (c *Cluster) settle(t testing.TB, settled func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !settled() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the NATS cluster did not settle within a minute")
		}
	}
}

func (c *Cluster) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	led := false
	for _, s := range c.servers {
		if s == nil {
			continue
		}
		led = led || s.JetStreamIsLeader()
		if !s.JetStreamIsCurrent() || s.NumRoutes() == 0 {
			return false
		}
	}
	return led
}

// Connect opens a connection to all servers, closed when the test ends.
func (c *Cluster) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatalf("connect to the test's NATS cluster: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Index returns the index of the server that a connection uses; -1: none.
func (c *Cluster) Index(nc *nats.Conn) int {
	for i, o := range c.options {
		if o.ServerName == nc.ConnectedServerName() {
			return i
		}
	}
	return -1
}
