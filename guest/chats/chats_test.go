package chats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/chats"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// gateway answers with what a test puts into it.
type gateway struct {
	mu      sync.Mutex
	list    string
	history map[string]string // by session; "": it refuses
	asked   []string          // the sessions whose history was asked for
}

func (g *gateway) ask(_ context.Context, method string, params any) (json.RawMessage, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if method == "sessions.list" {
		return json.RawMessage(g.list), nil
	}
	key, _ := params.(map[string]any)["sessionKey"].(string)
	g.asked = append(g.asked, key)
	if g.history[key] == "" {
		return nil, errors.New("UNAVAILABLE")
	}
	return json.RawMessage(g.history[key]), nil
}

// put sets the sessions, the newest last, each with one text.
func (g *gateway) put(texts ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var rows []string
	g.history = map[string]string{}
	for i, text := range texts {
		rows = append(rows, fmt.Sprintf(`{"key":"s%d","derivedTitle":"Title %d","updatedAt":%d}`, i, i, 1000+i+len(text)*0))
		g.history[fmt.Sprint("s", i)] = said(text)
	}
	g.list = `{"sessions":[` + strings.Join(rows, ",") + `]}`
}

func said(texts ...string) string {
	var all []string
	for _, t := range texts {
		all = append(all, fmt.Sprintf(`{"role":"user","content":[{"type":"text","text":%q}],"timestamp":1}`, t))
	}
	return `{"messages":[` + strings.Join(all, ",") + `]}`
}

// plane is the control plane's end of a stream.
type plane struct {
	t     *testing.T
	c     net.Conn
	serve chan error
	stop  func()
}

func serve(t *testing.T, k *chats.Keeper) *plane {
	near, far := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	p := &plane{t: t, c: near, serve: make(chan error, 1)}
	go func() { p.serve <- k.Serve(ctx, far) }()
	p.stop = sync.OnceFunc(func() { cancel(); near.Close(); <-p.serve })
	t.Cleanup(p.stop)
	return p
}

// next receives a copy and answers it.
func (p *plane) next(keep bool) wire.SavedChats {
	p.t.Helper()
	var head wire.ChatsHead
	if err := wire.ReadLine(p.c, &head, wire.MaxChatsHead); err != nil {
		p.t.Fatal(err)
	}
	text := make([]byte, head.Bytes)
	if _, err := io.ReadFull(p.c, text); err != nil {
		p.t.Fatal(err)
	}
	c, err := wire.ParseChats(text)
	if err != nil {
		p.t.Fatalf("a copy of %d bytes: %v", len(text), err)
	}
	if err := wire.WriteLine(p.c, wire.ChatsKept{Kept: keep}, wire.MaxChatsHead); err != nil {
		p.t.Fatal(err)
	}
	return c
}

func texts(c wire.SavedChats) (all []string) {
	for _, s := range c.Sessions {
		for _, m := range s.Messages {
			for _, p := range m.Content {
				all = append(all, s.Key+" "+p.Text)
			}
		}
	}
	return all
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

// A copy comes soon after a change, and the next at most every ten seconds, with only what changed read again.
func TestCopiesFollowChangesSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{}
		g.put("one", "two")
		k := chats.New(chats.Config{Ask: g.ask})
		p := serve(t, k)
		defer p.stop()
		began := time.Now()
		want(t, "the first copy", texts(p.next(true)), []string{"s1 two", "s0 one"})
		want(t, "its time", time.Since(began), time.Second)
		began = time.Now()
		g.asked = nil
		go func() {
			for range 100 {
				k.Changed("s0")
				time.Sleep(50 * time.Millisecond)
			}
		}()
		g.mu.Lock()
		g.history["s0"] = said("one", "more")
		g.mu.Unlock()
		want(t, "the second copy", texts(p.next(true)), []string{"s1 two", "s0 one", "s0 more"})
		want(t, "its time", time.Since(began), 10*time.Second)
		want(t, "histories asked for", g.asked, []string{"s0"})
		g.mu.Lock()
		g.list = strings.Replace(g.list, "Title 0", "Renamed", 1)
		g.mu.Unlock()
		k.Changed("s0")
		want(t, "the title after a rename", p.next(true).Sessions[1].Title, "Renamed")
	})
}

// After a large copy, the next waits until its bytes are spread over enough time.
func TestLargeCopiesAreRarer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{}
		g.put(strings.Repeat("x", 15<<10))
		var many []string
		for range 30 {
			many = append(many, strings.Repeat("x", 15<<10))
		}
		g.history["s0"] = said(many...)
		k := chats.New(chats.Config{Ask: g.ask})
		p := serve(t, k)
		defer p.stop()
		p.next(true)
		began := time.Now()
		g.put("short")
		k.Changed("s0")
		p.next(true)
		if got := time.Since(began); got < 28*time.Second || got > 30*time.Second {
			t.Errorf("the wait after 450 KiB: got %v, want about 28 s", got)
		}
	})
}

// A copy that the control plane did not keep is sent again, and so is one whose stream broke.
func TestCopyIsSentUntilItIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{}
		g.put("one")
		k := chats.New(chats.Config{Ask: g.ask})
		p := serve(t, k)
		p.next(false)
		want(t, "the same again", texts(p.next(false)), []string{"s0 one"})
		var head wire.ChatsHead
		if err := wire.ReadLine(p.c, &head, wire.MaxChatsHead); err != nil {
			t.Fatal(err)
		}
		p.stop()
		p = serve(t, k)
		defer p.stop()
		want(t, "the same over another stream", texts(p.next(true)), []string{"s0 one"})
	})
}

// Flush does not wait for the time of the next copy. It sends nothing if nothing changed.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{}
		g.put("one")
		k := chats.New(chats.Config{Ask: g.ask})
		k.Flush(t.Context()) // without a stream it returns immediately
		p := serve(t, k)
		defer p.stop()
		p.next(true)
		flushed := make(chan time.Duration)
		flush := func() {
			began := time.Now()
			k.Flush(t.Context())
			flushed <- time.Since(began)
		}
		go flush()
		want(t, "a Flush without a change", <-flushed, time.Duration(0))
		g.mu.Lock()
		// An answer began, which no event reported.
		g.history["s0"] = `{"messages":[],"inFlightRun":{"runId":"r1","text":"half an ans","startedAt":5}}`
		g.list = strings.Replace(g.list, "1000", "1001", 1)
		g.mu.Unlock()
		go flush()
		want(t, "the running answer", *p.next(true).Sessions[0].Running, wire.SavedRun{RunID: "r1", Text: "half an ans", StartedAt: 5})
		want(t, "a Flush after a change", <-flushed, time.Duration(0))
		g.mu.Lock()
		g.history["s0"] = `{"messages":[],"inFlightRun":{"runId":"r1","text":"half an answer","startedAt":5}}`
		g.mu.Unlock()
		go flush()
		want(t, "the answer further on", p.next(true).Sessions[0].Running.Text, "half an answer")
		<-flushed
		// A control plane that does not answer delays a stop only until its deadline.
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		g.put("two")
		k.Flush(ctx)
		p.stop()
	})
}

// A second stream at a time is refused, and a control plane that speaks unasked loses its stream.
func TestStreamsAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{}
		g.put("one")
		k := chats.New(chats.Config{Ask: g.ask})
		p := serve(t, k)
		defer p.stop()
		p.next(true)
		second := serve(t, k)
		if err := <-second.serve; err == nil {
			t.Error("a second stream: got no error, want one")
		}
		second.serve <- nil
		if err := wire.WriteLine(p.c, wire.ChatsKept{Kept: true}, wire.MaxChatsHead); err != nil {
			t.Fatal(err)
		}
		if _, err := p.c.Read(make([]byte, 1)); err == nil {
			t.Error("after an answer to nothing: got a byte, want the end")
		}
	})
}
