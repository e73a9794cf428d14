package jetstream_test

import (
	"testing"

	njs "github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
)

// A stream of an earlier release is compressed from now on, and keeps its messages.
func TestEarlierStreamIsCompressed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 300, "A")
	stop := run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	stop()
	s, err := w.JS.Stream(t.Context(), jetstream.StreamName)
	if err != nil {
		t.Fatal(err)
	}
	earlier := s.CachedInfo().Config
	created := s.CachedInfo().Created
	earlier.Compression = njs.NoCompression
	if _, err := w.JS.UpdateStream(t.Context(), earlier); err != nil {
		t.Fatal(err)
	}
	run(t, w.relay(t, jetstream.StreamLimits{}))
	now := func() *njs.StreamInfo {
		s, err := w.JS.Stream(t.Context(), jetstream.StreamName)
		if err != nil {
			return &njs.StreamInfo{}
		}
		return s.CachedInfo()
	}
	eventually(t, func() bool { return now().Config.Compression == njs.S2Compression }, func() string { return now().Config.Compression.String() })
	w.log.write(t, 50, "A")
	if c := w.settled(t); c.Stream != 350 || c.Different != 0 || !now().Created.Equal(created) {
		t.Errorf("got %+v in a stream of %v, want 350 events in that of %v", c, now().Created, created)
	}
}
