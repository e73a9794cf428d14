package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/mux"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// savedChats remembers what it is to save.
type savedChats struct {
	mu    sync.Mutex
	fail  error
	saved []string
}

func (s *savedChats) Save(_ context.Context, account, instance string, at time.Time, chats []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	if time.Since(at).Abs() > time.Minute {
		return errors.New("a wrong time")
	}
	s.saved = append(s.saved, fmt.Sprint(account, " ", instance, " ", string(chats)))
	return nil
}

func (s *savedChats) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.saved...)
}

// chatsStream is the guest's end of the stream of chats that the hub opens.
func (g *fakeGuest) chatsStream() *mux.Stream {
	g.t.Helper()
	s, err := g.session.AcceptStream()
	if err != nil {
		g.t.Fatal(err)
	}
	var open wire.Open
	if err := wire.ReadLine(s, &open, wire.MaxHeader); err != nil {
		g.t.Fatal(err)
	}
	if open.Open != wire.Chats {
		g.t.Fatalf("service: got %q, want %q", open.Open, wire.Chats)
	}
	if err := wire.WriteLine(s, wire.Opened{OK: true}, wire.MaxHeader); err != nil {
		g.t.Fatal(err)
	}
	return s
}

// sendCopy announces n bytes, sends the text, and returns the answer.
func sendCopy(s net.Conn, n int, text string) (kept bool, err error) {
	_ = s.SetDeadline(time.Now().Add(time.Minute))
	if err := wire.WriteLine(s, wire.ChatsHead{Bytes: n}, wire.MaxChatsHead); err != nil {
		return false, err
	}
	if _, err := s.Write([]byte(text)); err != nil {
		return false, err
	}
	var a wire.ChatsKept
	err = wire.ReadLine(s, &a, wire.MaxChatsHead)
	return a.Kept, err
}

func chatsReplica(t *testing.T) (*replica, *savedChats, *machines) {
	t.Helper()
	m, c := newMachines(t), &savedChats{}
	r := newReplica(t, m, nil)
	r.hub.c.Chats = c
	return r, c, m
}

const oneChat = `{"sessions":[{"key":"k","title":"T","updated_at":5,"messages":[{"role":"user","content":[{"type":"text","text":"hello"}]}],"left_out":false,"shortened":false}],"left_out":0}`

// A copy is saved as the machine's own, whatever else it contains. A store that fails is asked again by the guest.
func TestChatsAreSaved(t *testing.T) {
	t.Parallel()
	r, c, m := chatsReplica(t)
	g := mustDial(t, r.url, "b", m.private)
	s := g.chatsStream()
	more := strings.Replace(oneChat, `{"sessions"`, `{"instance":"01OTHER","account":"other","saved_at":"2099-01-01","sessions"`, 1)
	if kept, err := sendCopy(s, len(more), more); !kept || err != nil {
		t.Fatalf("a copy: got %v %v, want it kept", kept, err)
	}
	if got, want := c.all(), "account "+id+" "+oneChat; len(got) != 1 || got[0] != want {
		t.Errorf("saved: got %q, want %q", got, want)
	}
	for _, f := range []struct {
		fails error
		kept  bool // it need not be sent again
	}{{errors.New("the store is unavailable"), false}, {instance.ErrGone, true}} {
		c.mu.Lock()
		c.fail = f.fails
		c.mu.Unlock()
		if kept, err := sendCopy(s, len(oneChat), oneChat); kept != f.kept || err != nil {
			t.Errorf("%v: got %v %v, want %v", f.fails, kept, err, f.kept)
		}
	}
	if r.hub.local(id) == nil {
		t.Error("the tunnel: got none, want it")
	}
}

// What is not a copy ends only the stream of chats, and is not saved.
func TestHostileChats(t *testing.T) {
	t.Parallel()
	chat := func(messages string) string {
		return strings.Replace(oneChat, `"messages":[`, `"messages":[`+messages, 1)
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	many := func(n int, what string) string { return strings.TrimSuffix(strings.Repeat(what+",", n), ",") }
	for name, c := range map[string]struct {
		n    int // 0: the text's
		text string
	}{
		"too large":              {wire.MaxChats + 1, ""},
		"less than nothing":      {-1, ""},
		"no JSON":                {0, "hello"},
		"another form":           {0, `{"sessions":"none"}`},
		"cut":                    {0, oneChat[:len(oneChat)-1]},
		"not UTF-8":              {0, strings.Replace(oneChat, "hello", "\xff", 1)},
		"a long text":            {0, chat(`{"role":"user","content":[{"type":"text","text":"` + long(wire.MaxSavedText+1) + `"}]},`)},
		"a long name":            {0, strings.Replace(oneChat, `"T"`, `"`+long(wire.MaxSavedName+1)+`"`, 1)},
		"long arguments":         {0, chat(`{"role":"assistant","content":[{"type":"toolCall","arguments":"` + long(wire.MaxSavedArgs) + `"}]},`)},
		"too many messages":      {0, chat(many(wire.MaxSavedMessages, `{"role":"user","content":[]}`) + ",")},
		"too many parts":         {0, chat(`{"role":"user","content":[` + many(wire.MaxSavedParts+1, `{"type":"text"}`) + `]},`)},
		"too many chats":         {0, `{"sessions":[` + many(wire.MaxSavedSessions+1, `{"key":"k"}`) + `]}`},
		"a chat without a key":   {0, `{"sessions":[{"key":""}]}`},
		"a negative time":        {0, strings.Replace(oneChat, `"updated_at":5`, `"updated_at":-5`, 1)},
		"a number that is none":  {0, strings.Replace(oneChat, `"updated_at":5`, `"updated_at":9007199254740993`, 1)},
		"too long when written":  {0, chat(many(100, `{"role":"user","content":[{"type":"text","text":"`+strings.Repeat("<", 8<<10)+`"}]}`) + ",")},
		"long args when written": {0, chat(`{"role":"assistant","content":[{"type":"toolCall","arguments":"` + strings.Repeat("<", wire.MaxSavedArgs-2) + `"}]},`)},
		"a fraction":             {0, strings.Replace(oneChat, `"updated_at":5`, `"updated_at":5.5`, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, saved, m := chatsReplica(t)
			g := mustDial(t, r.url, "b", m.private)
			s := g.chatsStream()
			n := c.n
			if n == 0 {
				n = len(c.text)
			}
			if kept, err := sendCopy(s, n, c.text); err == nil {
				t.Fatalf("the answer: got %v, want the end of the stream", kept)
			}
			if got := saved.all(); len(got) != 0 {
				t.Errorf("saved: got %d, want 0", len(got))
			}
			s = g.chatsStream() // it is opened again after a while
			if kept, err := sendCopy(s, len(oneChat), oneChat); !kept || err != nil {
				t.Errorf("a copy afterwards: got %v %v, want it kept", kept, err)
			}
		})
	}
}

// A guest that sends copies without a pause is slowed down, and those of one account do not take all places.
func TestChatsFlood(t *testing.T) {
	t.Parallel()
	r, c, m := chatsReplica(t)
	g := mustDial(t, r.url, "b", m.private)
	s := g.chatsStream()
	began := time.Now()
	for range copiesBurst + 1 {
		if _, err := sendCopy(s, len(oneChat), oneChat); err != nil {
			t.Fatal(err)
		}
	}
	if got, least := time.Since(began), 4*time.Second; got < least {
		t.Errorf("time of %d copies: got %v, want at least %v", len(c.all()), got, least)
	}
	var taken []func()
	for range copiesAccount {
		leave, err := g.tunnelOf(r).copyPlace(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, leave)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := g.tunnelOf(r).copyPlace(ctx); err == nil {
		t.Error("a place beyond the account's share: got one, want none")
	}
	if used, _ := r.hub.copies.Used(); used != copiesAccount {
		t.Errorf("places in use: got %d, want %d", used, copiesAccount)
	}
	for _, leave := range taken {
		leave()
	}
}

func (g *fakeGuest) tunnelOf(r *replica) *tunnel { return r.hub.local(id) }

// An older guest has no such service, and keeps its tunnel. A server without saved chats opens no stream.
func TestChatsWithOlderGuests(t *testing.T) {
	t.Parallel()
	r, _, m := chatsReplica(t)
	g := mustDial(t, r.url, "b", m.private)
	s, err := g.session.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	var open wire.Open
	if err := wire.ReadLine(s, &open, wire.MaxHeader); err != nil {
		t.Fatal(err)
	}
	if err := wire.WriteLine(s, wire.Opened{Error: "no such service"}, wire.MaxHeader); err != nil {
		t.Fatal(err)
	}
	s.Close()
	var opened atomic.Int64
	go func() {
		for {
			s, err := g.session.AcceptStream()
			if err != nil {
				return
			}
			var open wire.Open
			if wire.ReadLine(s, &open, wire.MaxHeader) == nil && open.Open == wire.Chats {
				opened.Add(1)
			}
			_ = wire.WriteLine(s, wire.Opened{OK: true}, wire.MaxHeader)
		}
	}()
	for range 3 { // further streams come and go
		conn, _, err := r.hub.Open(t.Context(), id, wire.VNC)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if n := opened.Load(); n != 0 {
		t.Errorf("streams of chats after a refusal: got %d, want 0", n)
	}
}
