package embedded_test

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
)

var update = flag.Bool("update", false, "write the accounts into docs/production.md")

const (
	production = "../../docs/production.md"
	confBegins = "```conf\n"
	jsonBegins = "```json\n"
	blockEnds  = "```\n"
)

// block returns a block of code from a document.
func block(t *testing.T, text, begins string) (before, code, after string) {
	t.Helper()
	before, rest, found := strings.Cut(text, begins)
	code, after, ended := strings.Cut(rest, blockEnds)
	if !found || !ended {
		t.Fatalf("no block %q, want found true and ended true", begins)
	}
	return before, code, after
}

// A separate NATS, set up as docs/production.md shows, has the same accounts as the one in this process, and readers can
// follow the copy that is created as it says.
func TestDocumentedAccounts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(production)
	if err != nil {
		t.Fatal(err)
	}
	want := embedded.AccountsConf("PASSWORD-1", "PASSWORD-2", "PASSWORD-3")
	before, code, after := block(t, string(text), confBegins)
	if code != want {
		if !*update {
			t.Fatalf("the accounts of docs/production.md are not those of the program: go test ./adapters/embedded -run %s -update", t.Name())
		}
		if err := os.WriteFile(production, []byte(before+confBegins+want+blockEnds+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	opts := &server.Options{}
	if err := opts.ProcessConfigString(want); err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port, opts.NoSigs, opts.NoLog, opts.JetStream, opts.StoreDir = "127.0.0.1", server.RANDOM_PORT, true, true, true, t.TempDir()
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(20 * time.Second) {
		t.Fatal("NATS did not start")
	}
	as := func(user, password string) (*nats.Conn, jetstream.JetStream) {
		nc, err := nats.Connect("nats://" + user + ":" + password + "@" + s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return nc, js
	}
	_, control := as("control", "PASSWORD-1")
	_, copier := as("copier", "PASSWORD-2")
	nc, _ := as("reader", "PASSWORD-3")
	makeEvents(t, control)
	_, config, _ := block(t, after, jsonBegins) // the first one after the accounts
	var copied jetstream.StreamConfig
	if err := json.Unmarshal([]byte(config), &copied); err != nil {
		t.Fatal(err)
	}
	if _, err := copier.CreateStream(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	old, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	sub, err := old.SubscribeSync("cloudbot.events.>", nats.BindStream("EVENTS"), nats.OrderedConsumer())
	if err != nil {
		t.Fatal(err)
	}
	if m, err := sub.NextMsg(20 * time.Second); err != nil || string(m.Data) != `{"n":1}` {
		t.Fatalf("got %v, %v, want no error and %q", m, err, `{"n":1}`)
	}
}
