package e2e

import (
	"bufio"
	"context"

	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// tenant is an account with its desktop, and what it was told.
type tenant struct {
	*client
	instance string

	mu       sync.Mutex
	accepted map[string]int // commands, by kind
	repeated int            // commands that were sent again under their Idempotency-Key
	name     string         // that the last accepted rename gave
	last4    string         // of the last accepted API key
	faults   []string

	streams []*listener
}

// command sends a command until it is accepted, always under the same key.
func (u *tenant) command(ctx context.Context, kind string, status int, method, path, body, key string) (a answer, ok bool) {
	for tries := 0; ; tries++ {
		a, err := u.try(method, path, body, "Idempotency-Key", key)
		switch {
		case err == nil && a.status == status:
			u.mu.Lock()
			u.accepted[kind]++
			u.repeated += min(tries, 1)
			u.mu.Unlock()
			return a, true
		case ctx.Err() != nil:
			return a, false
		case err == nil && a.status < 500:
			u.mu.Lock()
			u.faults = append(u.faults, fmt.Sprintf("%s: %d %s", kind, a.status, a.body))
			u.mu.Unlock()
			return a, false
		}
		if retry.Sleep(ctx, 200*time.Millisecond) != nil {
			return a, false
		}
	}
}

// work sends commands until stop is closed: renames and API keys, and each twentieth time a desktop that is terminated
// again. Commands that have begun are finished.
func (u *tenant) work(ctx context.Context, stop <-chan struct{}, pause time.Duration) {
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		name := fmt.Sprintf("name %d", n)
		if _, ok := u.command(ctx, "rename", http.StatusOK, "PATCH", "/api/instances/"+u.instance, fmt.Sprintf(`{"name":%q}`, name), fmt.Sprint("rename-", n)); ok {
			u.name = name
		}
		last := fmt.Sprintf("%04d", n)
		if _, ok := u.command(ctx, "key", http.StatusCreated, "POST", "/api/user/api-keys", fmt.Sprintf(`{"provider":"openai","api_key":"sk-0123456789abcdef0123%s"}`, last), fmt.Sprint("key-", n)); ok {
			u.last4 = last
		}
		if n%20 == 5 {
			if a, ok := u.command(ctx, "create", http.StatusAccepted, "POST", "/api/instances", fmt.Sprintf(`{"name":"second %d"}`, n), fmt.Sprint("create-", n)); ok {
				u.command(ctx, "terminate", http.StatusAccepted, "DELETE", "/api/instances/"+a.field("id"), "", fmt.Sprint("terminate-", n))
			}
		}
	}
}

// listener is an event stream that reconnects as an EventSource does.
type listener struct {
	u  *tenant
	mu sync.Mutex

	positions []int64
	types     []string
	breaks    int
	faults    []string
}

// listen follows the account's events from the first one until ctx ends.
func (l *listener) listen(ctx context.Context) {
	pause, last := 500*time.Millisecond, "0"
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, "GET", l.u.base+"/api/events", nil)
		if err != nil {
			return
		}
		req.Header.Set("Authorization", "Bearer "+l.u.token)
		req.Header.Set("Last-Event-ID", last)
		req.Header.Set("X-Forwarded-For", l.u.from)
		if res, err := http.DefaultClient.Do(req); err == nil {
			if res.StatusCode == http.StatusOK {
				last, pause = l.read(bufio.NewScanner(res.Body), last, pause)
			}
			res.Body.Close()
		}
		l.mu.Lock()
		l.breaks++
		l.mu.Unlock()
		_ = retry.Sleep(ctx, pause)
	}
}

// read reads a stream to its end.
func (l *listener) read(lines *bufio.Scanner, last string, pause time.Duration) (string, time.Duration) {
	lines.Buffer(nil, 1<<20)
	id, kind := "", ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			id = value
		case "event":
			kind = value
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				pause = time.Duration(ms) * time.Millisecond
			}
		case "":
			if lines.Text() == "" && id != "" {
				last = id
				l.note(id, kind)
			}
			if lines.Text() == "" {
				id, kind = "", ""
			}
		}
	}
	return last, pause
}

func (l *listener) note(id, kind string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, number, _ := strings.Cut(id, "-")
	position, err := strconv.ParseInt(number, 10, 64)
	if err != nil || kind == "reset" {
		l.faults = append(l.faults, id+" "+kind)
		return
	}
	l.positions, l.types = append(l.positions, position), append(l.types, kind)
}

// at returns the position of the last event.
func (l *listener) at() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.positions) == 0 {
		return 0
	}
	return l.positions[len(l.positions)-1]
}

// check compares what the account was told with what can be read, and returns how many events each stream had.
func (u *tenant) check() (events int, faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	faults = append(faults, u.faults...)
	lines, leave, err := u.stream("/api/events", "0", time.Minute)
	if err != nil {
		return 0, append(faults, err.Error())
	}
	defer leave()
	fresh := &listener{u: u}
	go fresh.read(lines, "0", 0)
	end := u.streams[0].at()
	await(u.t, time.Minute, "a fresh stream to reach the end", func() bool { return fresh.at() >= end })
	leave()
	fresh.mu.Lock()
	all, types := slices.Clone(fresh.positions), slices.Clone(fresh.types)
	fresh.mu.Unlock()
	for i, l := range u.streams {
		if !slices.Equal(l.positions, all) {
			fault("stream %d: got %d events, want the same %d, each once and in order", i, len(l.positions), len(all))
		}
		faults = append(faults, l.faults...)
	}
	for kind, event := range map[string]string{"rename": "instance.renamed", "key": "apikey.", "create": "instance.requested", "terminate": "instance.termination_requested"} {
		n := 0
		for _, typ := range types {
			if typ == event || strings.HasSuffix(event, ".") && strings.HasPrefix(typ, event) {
				n++
			}
		}
		want := u.accepted[kind]
		if kind == "create" {
			want++ // the desktop of the viewers
		}
		if n != want {
			fault("%s: %d accepted and %d events", kind, want, n)
		}
	}
	if got := u.must(http.StatusOK, "GET", "/api/instances/"+u.instance, "").field("name"); got != u.name {
		fault("name: got %q, want %q", got, u.name)
	}
	keys := u.must(http.StatusOK, "GET", "/api/user/api-keys", "").body
	if !strings.Contains(string(keys), u.last4) {
		fault("API key: got %s, want one that ends with %s", keys, u.last4)
	}
	return len(all), faults
}
