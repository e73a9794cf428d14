package jetstream

import (
	"encoding/json"
	"testing"
	"time"
)

// The attributes are the bytes that encoding/json makes of them, whatever is in them.
func TestAttributesAreEncodedAlike(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 30, 0, 123456000, time.UTC)
	for _, s := range []string{"", "plain", "01JQ0000000000000000000002", `a"b\c`, "a<b", "a>b", "a&b", "\u2028", "é", "\x00\x1f", "\x7f", "\xff", "a/b"} {
		for _, w := range []wireFormat{
			{SpecVersion: "1.0", ID: s, Source: s, Type: s, Subject: s, Time: at, DataContentType: s, Sequence: s, Epoch: 1, StreamVersion: 1 << 60, DataSchemaVersion: 1},
			{
				TraceParent: s, Actor: s, CommandID: s, CorrelationID: s, CausationID: s, Damage: s, Time: at.Truncate(time.Second),
				Epoch: -1, StreamVersion: -1,
			},
		} {
			want, err := json.Marshal(w)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(w.appendTo(nil)) + "}"; got != string(want) {
				t.Errorf("%q: got\n%s\nwant\n%s", s, got, want)
			}
		}
	}
}
