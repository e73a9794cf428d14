package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// A desktop of which one event cannot be read can be looked at. What would change it is refused in a
// way that its owner and the operator understand, and other desktops are as before.
func TestDamagedStream(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	create := call{method: "POST", path: "/api/instances", body: map[string]string{}, token: ada.access}
	bad, fine := f.want(202, create).field(t, "id"), f.want(202, create).field(t, "id")
	stream := eventstore.StreamID{Aggregate: "instance", ID: bad}
	if _, err := f.store.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{{Stream: stream, Expected: 1, Events: []eventstore.NewEvent{{
		ID: "01X", Type: "instance.from_the_future", Schema: 9, Time: time.Now(), Data: json.RawMessage(`{}`),
	}}}}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []call{
		{method: "PATCH", path: "/api/instances/" + bad, body: map[string]string{"name": "other"}}, {method: "DELETE", path: "/api/instances/" + bad},
		{method: "POST", path: "/api/instances/" + bad + "/stop"}, {method: "POST", path: "/api/instances/" + bad + "/start"},
	} {
		c.token = ada.access
		if a := f.want(409, c); a.field(t, "code") != "stream_damaged" {
			t.Errorf("%s: %s", c.path, a.body)
		}
	}
	f.want(200, call{method: "GET", path: "/api/instances/" + bad, token: ada.access})
	f.want(200, call{method: "GET", path: "/api/instances", token: ada.access})
	f.want(202, call{method: "DELETE", path: "/api/instances/" + fine, token: ada.access})
}

// Whatever says that the database is away, full or read-only asks to come back, and is no fault of ours.
func TestDatabaseTroublesAreUnavailable(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&pgconn.PgError{Code: "25006"}, &pgconn.PgError{Code: "53300"}, &pgconn.PgError{Code: "57P03"}, &pgconn.PgError{Code: "08006"},
		&pgconn.ConnectError{}, io.ErrUnexpectedEOF,
	} {
		if r := refused(errors.Join(errors.New("read"), err)); r.status != 503 || r.retryAfter == 0 {
			t.Errorf("%T %v: %+v", err, err, r)
		}
	}
	if r := refused(&pgconn.PgError{Code: "42P01"}); r.status != 500 {
		t.Errorf("a missing table: %+v", r)
	}
}
