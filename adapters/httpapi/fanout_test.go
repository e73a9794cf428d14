package httpapi

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

// countedQueries counts the queries of event streams.
type countedQueries struct {
	Queries
	since atomic.Int64
}

func (q *countedQueries) Since(ctx context.Context, account string, after int64, limit int) ([]projections.Entry, error) {
	q.since.Add(1)
	return q.Queries.Since(ctx, account, after, limit)
}

// An open stream asks the database for nothing, whatever happens to its account or to others. Only a stream that resumes
// asks.
func TestOpenStreamsDoNotQuery(t *testing.T) {
	t.Parallel()
	var counted *countedQueries
	f := newFront(t, func(c *Config) {
		counted = &countedQueries{Queries: c.Queries}
		c.Queries = counted
	})
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	f.caughtUp()
	hers, theirs := f.stream(t, ada.access, "/api/events", ""), make([]*reader, 10)
	for i := range theirs {
		theirs[i] = f.stream(t, eve.access, "/api/events", "")
	}
	for _, r := range append(theirs, hers) {
		if _, ok := r.block(); !ok { // the greeting: it has joined
			t.Fatal("got the end of the stream, want its greeting")
		}
	}
	id := f.create(ada, "x")
	f.create(eve, "y")
	for _, r := range append(theirs, hers) { // the first event may race with a stream that is joining
		if _, name, _ := r.event(); name != "instance.requested" {
			t.Fatalf("got %s, want instance.requested", name)
		}
	}
	before := counted.since.Load()
	for range 20 {
		f.do(call{method: "PATCH", path: "/api/instances/" + id, token: ada.access, body: map[string]string{"name": fmt.Sprint(f.head())}})
		if _, name, _ := hers.event(); name != "instance.renamed" {
			t.Fatalf("got %s, want instance.renamed", name)
		}
	}
	if n := counted.since.Load() - before; n > 0 {
		t.Errorf("got %d queries by 11 streams while 20 events happened, want 0", n)
	}
	resumed := f.stream(t, ada.access, "/api/events?after=0", "")
	if _, name, _ := resumed.event(); name != "account.signed_up" || counted.since.Load() == before {
		t.Errorf("resumed with %s after %d queries, want account.signed_up after at least one", name, counted.since.Load()-before)
	}
}

// someEntries are an account's entries from a position to another, as the log would have them.
func someEntries(account string, from, to int64) (list []projections.Owned) {
	for n := from; n <= to; n++ {
		list = append(list, projections.Owned{Account: account, Entry: projections.Entry{Position: n, Type: "x", Subject: "instance/i"}})
	}
	return list
}

// A slow stream, one that joins while events are chosen, and one whose follower began again read what they missed. Nothing is
// sent twice.
func TestStreamsReadWhatTheyMissed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(s *Server, in *inbox)
		lost bool
		want int
	}{
		"all fit":         {func(s *Server, _ *inbox) { s.Happened(someEntries("a", 1, inboxSize), inboxSize, s.fan.joins) }, false, inboxSize},
		"too many":        {func(s *Server, _ *inbox) { s.Happened(someEntries("a", 1, inboxSize+1), inboxSize+1, s.fan.joins) }, true, 0},
		"joined too late": {func(s *Server, _ *inbox) { s.Happened(nil, 5, s.fan.joins-1) }, true, 0},
		"in time":         {func(s *Server, _ *inbox) { s.Happened(nil, 5, s.fan.joins) }, false, 0},
		"began again":     {func(s *Server, _ *inbox) { s.Happened(someEntries("a", 1, 3), 3, s.fan.joins); s.StreamsFrom(9) }, true, 0},
		"another account": {func(s *Server, _ *inbox) { s.Happened(someEntries("b", 1, 3), 3, s.fan.joins) }, false, 0},
		"left":            {func(s *Server, in *inbox) { s.fan.restart(in); s.Happened(someEntries("a", 4, 5), 5, s.fan.joins) }, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &Server{cfg: Config{Epoch: NewEpoch(1)}}
			in, leave := s.fan.join("a")
			defer leave()
			c.do(s, in)
			waiting, lost := s.fan.take(in)
			if lost != c.lost || len(waiting) != c.want {
				t.Errorf("got %d waiting, lost %v, want %d, %v", len(waiting), lost, c.want, c.lost)
			}
			if c.want+len(waiting) > 0 || lost {
				select {
				case <-in.ready:
				default:
					t.Error("got no signal, want one")
				}
			}
			at := point{1, 2}
			first := after(waiting, &at, sees(access.Claims{}))
			if twice := after(waiting, &at, sees(access.Claims{})); twice != "" || strings.Contains(first, "id: 1-2\n") {
				t.Errorf("got an event at or below the point again")
			}
		})
	}
}

// Streams that leave take nothing with them.
func TestStreamsLeave(t *testing.T) {
	t.Parallel()
	s := &Server{cfg: Config{Epoch: NewEpoch(1)}}
	var leaves []func()
	for range 3 {
		_, leave := s.fan.join("a")
		leaves = append(leaves, leave)
	}
	open, joins := s.Streaming()
	for _, leave := range slices.Backward(leaves) {
		leave()
	}
	s.Happened(nil, 1, joins)
	if now, _ := s.Streaming(); !open || now || s.StreamsTo("a") || len(s.fan.fresh) > 0 {
		t.Errorf("got streams of %v, want none", s.fan.by)
	}
}

// Streams that come and go while nothing happens take nothing with them either.
func TestStreamsLeaveBeforeAnEvent(t *testing.T) {
	t.Parallel()
	s := &Server{cfg: Config{Epoch: NewEpoch(1)}}
	for range 3 {
		_, leave := s.fan.join("a")
		leave()
	}
	if n := len(s.fan.fresh); n > 0 {
		t.Errorf("got %d streams that have left, want none", n)
	}
}

// A follower that was ahead of the read models, because Postgres lost their latest commits or the log was restored, begins again
// further back. Streams then get what the read models lacked.
func TestFollowerBeginsFurtherBack(t *testing.T) {
	t.Parallel()
	var counted *countedQueries
	f := newFront(t, func(c *Config) {
		counted = &countedQueries{Queries: c.Queries}
		c.Queries = counted
	})
	ada := f.signUp("ada@example.com")
	f.caughtUp()
	head := f.head()
	r := f.stream(t, ada.access, "/api/events", "")
	if _, ok := r.block(); !ok {
		t.Fatal("got the end of the stream, want its greeting")
	}
	f.server.StreamsFrom(head + 1000)
	for deadline := time.Now().Add(60 * time.Second); counted.since.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the stream reads nothing")
		}
	}
	f.server.StreamsFrom(head)
	f.create(ada, "x")
	if _, name, _ := r.event(); name != "instance.requested" {
		t.Errorf("got %q, want instance.requested", name)
	}
}

// The epoch turns between the choice of an id and its delivery: streams read the event instead, with an id of the new epoch.
func TestEpochTurnsDuringDelivery(t *testing.T) {
	t.Parallel()
	s := &Server{cfg: Config{Epoch: NewEpoch(1)}}
	in, leave := s.fan.join("a")
	defer leave()
	s.cfg.Epoch.Set(2)
	s.fan.restart(in)
	s.handOver(someEntries("a", 1, 1), []sealedEvent{{at: point{1, 1}, text: "x"}}, 1, s.fan.joins, 1)
	if _, lost := s.fan.take(in); !lost {
		t.Error("got an event of the old epoch, want it read again")
	}
}
