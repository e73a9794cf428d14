package jetstream

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestAcknowledged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		body, status string
		want         int64
		err          error
		refused      bool
	}{
		{body: `{"stream":"EVENTS", "seq":12}`, want: 12},
		{body: `{"stream":"EVENTS","seq":9007199254740993}`, want: 9007199254740993},
		{body: `{"stream":"EVENTS","domain":"hub","seq":12}`, want: 12},
		{body: `{"stream":"EVENTS","seq":12,"duplicate":true}`, want: 12},
		{body: `{"stream":"OTHER","seq":12}`, want: 12},
		{body: `{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 7"},"stream":"EVENTS","seq":0}`, refused: true},
		{body: `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}`, err: &jetstream.APIError{ErrorCode: 10077}},
		{status: "503", err: jetstream.ErrNoStreamResponse},
		{body: ``, err: jetstream.ErrInvalidJSAck},
		{body: `{}`, err: jetstream.ErrInvalidJSAck},
		{body: `{"stream":"EVENTS","seq":`, err: jetstream.ErrInvalidJSAck},
	} {
		m := &nats.Msg{Data: []byte(c.body), Header: nats.Header{}}
		if c.status != "" {
			m.Header.Set("Status", c.status)
		}
		got, err := acknowledged(m)
		var api *jetstream.APIError
		switch {
		case c.refused:
			if !wrongSequence(err) {
				t.Errorf("%s: got %v, want it refused because of its number", c.body, err)
			}
		case c.err == nil && (got != c.want || err != nil):
			t.Errorf("%s: got %d, %v, want %d", c.body, got, err, c.want)
		case errors.As(c.err, &api):
			if have := (*jetstream.APIError)(nil); !errors.As(err, &have) || have.ErrorCode != api.ErrorCode {
				t.Errorf("%s: got %v, want the server's error %d", c.body, err, api.ErrorCode)
			}
		case c.err != nil && !errors.Is(err, c.err):
			t.Errorf("%q, status %q: got %v, want %v", c.body, c.status, err, c.err)
		}
	}
}
