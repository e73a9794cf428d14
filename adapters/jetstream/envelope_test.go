package jetstream_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

var update = flag.Bool("update", false, "write the golden file")

func sample() jetstream.Envelope {
	return jetstream.Envelope{
		Environment: "production", Epoch: 2,
		Event: eventstore.Event{
			Position: 42, Version: 3, Stream: eventstore.StreamID{Aggregate: "instance", ID: "01JQ0000000000000000000001"},
			NewEvent: eventstore.NewEvent{
				ID: "01JQ0000000000000000000002", Type: "instance.phase_reached", Schema: 1,
				Time: time.Date(2026, 3, 1, 12, 30, 0, 123456000, time.UTC),
				Data: json.RawMessage(`{"phase" : "desktop", "detail":"<XFCE> & more", "phase":"twice"}`),
				Meta: eventstore.Metadata{
					Actor: "system", CommandID: "c-1", CorrelationID: "r-1", CausationID: "01JQ0000000000000000000003",
					TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ClientAddr: "192.0.2.7",
				},
			},
		},
	}
}

// The golden file is what subscribers were promised; it changes by addition only.
func TestEnvelopeGolden(t *testing.T) {
	t.Parallel()
	got := append(sample().Bytes(), '\n')
	name := filepath.Join("testdata", "envelope.json")
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	if bytes.Contains(got, []byte("192.0.2.7")) {
		t.Fatal("the client's address is in it")
	}
}

func TestEnvelopeRoundTrip(t *testing.T) {
	t.Parallel()
	minimal := sample()
	minimal.Event.Meta = eventstore.Metadata{}
	spaced := sample()
	spaced.Event.Data = json.RawMessage("\n\t {\"a\" :1 } \r\n ")
	nested := sample()
	nested.Event.Data = json.RawMessage(`{"data":{"data":1}}`)
	scalar := sample()
	scalar.Event.Data = json.RawMessage(` "\"data\":1" `)
	odd := sample()
	odd.Event.Meta.Actor = "a\"b\\c<>&\u2028é"
	for _, want := range []jetstream.Envelope{sample(), minimal, spaced, nested, scalar, odd} {
		got, err := jetstream.ParseEnvelope(want.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		want.Event.Meta.ClientAddr = ""
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"a":1}`), "actor", int64(1))
	f.Add([]byte(" [1 , 2]\n"), "<&>", int64(9))
	f.Fuzz(func(t *testing.T, data []byte, actor string, position int64) {
		if !json.Valid(data) || position < 1 {
			t.Skip()
		}
		v := sample()
		v.Event.Data, v.Event.Position = data, position
		got, err := jetstream.ParseEnvelope(v.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Event.Data, data) {
			t.Fatalf("data %q became %q, want %v", data, got.Event.Data, data)
		}
	})
}

func TestStrangersAreNotParsed(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		``, `null`, `[]`, `{}`, `{"specversion":"1.0"}`,
		`{"specversion":"1.0","id":"x","source":"/elsewhere/x","type":"a.b","subject":"a/b","sequence":"1","time":"2026-03-01T12:30:00Z","data":{}}`,
		`{"specversion":"1.0","id":"x","source":"/cloudbot/x","type":"a.b","subject":"a/b","sequence":"0","time":"2026-03-01T12:30:00Z","data":{}}`,
		`{"specversion":"1.0","id":"x","source":"/cloudbot/x","type":"a.b","subject":"a/b","sequence":"1","time":"2026-03-01T12:30:00Z"}`,
		`{"specversion":"0.3","id":"x","source":"/cloudbot/x","type":"a.b","subject":"a/b","sequence":"1","time":"2026-03-01T12:30:00Z","data":{}}`,
	} {
		if v, err := jetstream.ParseEnvelope([]byte(body)); err == nil {
			t.Errorf("%s: got %+v, want an error", body, v)
		}
	}
}

func TestSubject(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ aggregate, id, typ, want string }{
		{"instance", "01J", "instance.requested", "cloudbot.events.instance.01J.requested"},
		{"email", "ab-c_9", "email.claimed", "cloudbot.events.email.ab-c_9.claimed"},
		{"account", "01J", "account.signed_up", "cloudbot.events.account.01J.signed_up"},
		{"a b", "x.>*", "", "cloudbot.events.a_b.x___._"},
	} {
		e := eventstore.Event{Stream: eventstore.StreamID{Aggregate: c.aggregate, ID: c.id}, NewEvent: eventstore.NewEvent{Type: c.typ}}
		if got := jetstream.Subject(e); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
