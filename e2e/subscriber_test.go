package e2e

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestOutsideSubscriber follows an instance's life over NATS, as docs/asyncapi.yaml describes.
func TestOutsideSubscriber(t *testing.T) {
	t.Parallel()
	s := newServer(t, "NATS_LISTEN=127.0.0.1:0")
	s.start()
	url, err := os.ReadFile(filepath.Join(s.dir, "nats", "reader.url"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(strings.TrimSpace(string(url)))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("cloudbot.events.instance.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	u := signUp(t, s.URL, "barbara@example.com")
	id := u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	u.awaitInstance(id, "ready", "true")
	u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")

	// With the older API, pushed and in order, from the first event on.
	old, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	var whole *nats.Subscription
	await(t, 20*time.Second, "the readers' copy of the stream", func() bool { // which follows the stream within a second
		whole, err = old.SubscribeSync("cloudbot.events.>", nats.BindStream("EVENTS"), nats.OrderedConsumer())
		return !errors.Is(err, nats.ErrStreamNotFound)
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(10) {
		m, err := whole.NextMsg(20 * time.Second)
		if err != nil {
			t.Fatalf("message %d: got %v, want a message", n+1, err)
		}
		if meta, err := m.Metadata(); err != nil || meta.Sequence.Stream != n+1 {
			t.Fatalf("message: got %+v, %v, want sequence %d", meta, err, n+1)
		}
	}

	seen, last := 0, int64(0)
	for {
		m, err := sub.NextMsg(20 * time.Second)
		if err != nil {
			t.Fatalf("after %d events: got %v, want instance.terminated", seen, err)
		}
		var e struct {
			SpecVersion string `json:"specversion"`
			Type        string `json:"type"`
			Subject     string `json:"subject"`
			Sequence    int64  `json:"sequence,string"`
		}
		if err := json.Unmarshal(m.Data, &e); err != nil {
			t.Fatal(err)
		}
		wantSubject := "cloudbot.events.instance." + id + "." + strings.TrimPrefix(e.Type, "instance.")
		if e.SpecVersion != "1.0" || e.Subject != "instance/"+id || e.Sequence <= last || m.Subject != wantSubject {
			t.Fatalf("got a message on %s after %d, want %s, in order: %s", m.Subject, last, wantSubject, m.Data)
		}
		seen, last = seen+1, e.Sequence
		if e.Type == "instance.terminated" {
			break
		}
	}
	t.Logf("%d events of one instance, the last at %d", seen, last)
	if err := nc.Publish("cloudbot.events.instance.x.forged", []byte("{}")); err == nil {
		if err := nc.Flush(); err == nil && nc.LastError() == nil {
			t.Error("publishing as an outside subscriber: got no error, want a refusal")
		}
	}
}
