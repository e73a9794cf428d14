package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/fair"
)

const wrongPassword = "a wrong password"

func logInWith(email, password, device string) call {
	c := login(email, password)
	c.body.(map[string]string)["device_token"] = device
	return c
}

// guess tries wrong passwords from an address until they are refused. It returns how many were compared.
func (f *front) guess(addr, email string) (compared int) {
	f.t.Helper()
	for range 1000 {
		switch a := f.do(from(addr, login(email, wrongPassword))); a.status {
		case 401:
			compared++
		case 429:
			return compared
		default:
			f.t.Fatalf("got %d %s, want 401 or 429", a.status, a.body)
		}
	}
	f.t.Fatal("refused guesses: got none of 1,000, want one")
	return 0
}

// TestHostileGuessesKeepNoOwnerOut guesses the password of one account from one address, then from a network,
// then from many networks.
func TestHostileGuessesKeepNoOwnerOut(t *testing.T) {
	t.Parallel()
	f := newFront(t, behindProxy)
	signedUp := f.want(201, from("192.0.2.1", call{method: "POST", path: "/api/auth/signup", body: map[string]string{"email": "ada@example.com", "password": canary}}))
	f.signUp("bob@example.com")
	device := signedUp.field(t, "device_token")
	right := login("ada@example.com", canary)
	alone := f.timed(200, from(elsewhere, right))

	if n := f.guess(hostile, "ada@example.com"); n != 10 {
		t.Errorf("%d guesses from one address, want 10", n)
	}
	beside := f.timed(200, from(elsewhere, right))
	for range 20 { // log-ins with the right password do not count
		f.want(200, from(elsewhere, right))
	}
	f.want(429, from(hostile, right)) // an answer would reveal that the guess was right
	f.want(200, from(hostile, login("bob@example.com", canary)))

	compared := 10
	for i := range 256 {
		compared += f.guess(fmt.Sprintf("198.51.100.%d", i), "ada@example.com")
		if compared >= 40 {
			break
		}
	}
	if n := f.guess("198.51.100.250", "ada@example.com"); compared != 40 || n != 0 {
		t.Errorf("%d and %d guesses from one network, want 40 and 0", compared, n)
	}
	f.want(200, from(elsewhere, right))
	for i := range 20 {
		compared += f.guess(fmt.Sprintf("10.%d.0.1", i), "ada@example.com")
	}
	if compared != 60 {
		t.Errorf("%d guesses from everywhere, want 60", compared)
	}
	f.want(429, from(elsewhere, right))
	f.want(200, from(elsewhere, login("bob@example.com", canary)))
	f.want(200, from(hostile, logInWith("ada@example.com", canary, device))) // even from there
	f.clock.advance(20 * time.Minute)
	f.want(200, from(elsewhere, right))
	t.Logf("the owner's log-in beside the guesses: %s; alone: %s", beside, alone)
}

func TestADeviceHasABoundOfItsOwn(t *testing.T) {
	t.Parallel()
	f := newFront(t, behindProxy)
	f.signUp("ada@example.com")
	get := func(email, shown string) string {
		t.Helper()
		return f.want(200, from(elsewhere, logInWith(email, canary, shown))).field(t, "device_token")
	}
	one, two := get("ada@example.com", ""), get("ada@example.com", "")
	if one == two || len(one) > maxDevice {
		t.Errorf("tokens of two devices: got %q and %q, want two short ones that differ", one, two)
	}
	if again := get("Ada@example.com ", one); again != one {
		t.Errorf("token of a known device: got %q, want %q", again, one)
	}
	for range 10 {
		f.want(401, from(elsewhere, logInWith("ada@example.com", wrongPassword, one)))
	}
	f.want(429, from(elsewhere, logInWith("ada@example.com", canary, one)))
	f.want(200, from(elsewhere, logInWith("ada@example.com", canary, two)))
	f.want(200, from(elsewhere, login("ada@example.com", canary))) // those counted against the device only
	f.clock.advance(6 * time.Minute)
	f.want(200, from(elsewhere, logInWith("ada@example.com", canary, one)))
}

func TestWhatIsNoDeviceTokenCountsAsNone(t *testing.T) {
	t.Parallel()
	f := newFront(t, behindProxy)
	f.signUp("ada@example.com")
	f.signUp("bob@example.com")
	of := func(email string) string {
		return f.want(200, from(elsewhere, login(email, canary))).field(t, "device_token")
	}
	ada, bob := of("ada@example.com"), of("bob@example.com")
	id, mac, _ := strings.Cut(ada, ".")
	f.guess(hostile, "ada@example.com")
	for name, token := range map[string]string{
		"another account's": bob, "damaged": ada[1:], "other id": "AAAA" + id[4:] + "." + mac, "without id": "." + mac, "without hash": id + ".",
		"long": ada + strings.Repeat("x", 200), "words": "let me in",
	} {
		if a := f.do(from(hostile, logInWith("ada@example.com", canary, token))); a.status != 429 && a.status != 422 {
			t.Errorf("%s: got %d, want 429 or 422", name, a.status)
		}
		if a := f.want(200, from(elsewhere, logInWith("ada@example.com", canary, token))); a.field(t, "device_token") == token {
			t.Errorf("%s: got the same device token, want a new one", name)
		}
	}
	f.want(200, from(hostile, logInWith("ada@example.com", canary, ada)))
	// An address without an account gets the same answers as one with an account.
	unknown, known := map[string]int{}, map[string]int{}
	for range 14 {
		for email, seen := range map[string]map[string]int{"stranger@example.com": unknown, "bob@example.com": known} {
			a := f.do(from("10.1.0.1", logInWith(email, wrongPassword, ada)))
			seen[fmt.Sprint(a.status, a.field(t, "code"), a.field(t, "detail"))]++
		}
	}
	delay := func(m map[string]int) map[string]int { // seconds to wait may differ by one
		list := map[string]int{}
		for k, n := range m {
			list[k[:min(len(k), 40)]] += n
		}
		return list
	}
	if !maps.Equal(delay(unknown), delay(known)) {
		t.Errorf("delays: got %v for an unknown address and %v for a known one, want no difference", delay(unknown), delay(known))
	}
}

// queued compares passwords in a real queue; each comparison also waits for one value of turns.
type queued struct {
	fakePasswords
	queue *fair.Queue
	turns chan struct{}

	mu    sync.Mutex
	order []string // the passwords that were compared
}

func (q *queued) Compare(ctx context.Context, hash []byte, p string) (bool, error) {
	switch q.queue.Enter(ctx, fair.VisitorOf(ctx)) {
	case fair.Taken:
	case fair.ShareFull:
		return false, &domain.Error{Kind: domain.Exhausted, Code: "too_many_sign_ins", Msg: "Wait."}
	default:
		return false, &domain.Error{Kind: domain.Unavailable, Code: "sign_in_busy", Msg: "Wait."}
	}
	defer q.queue.Leave()
	select {
	case <-q.turns:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	q.mu.Lock()
	q.order = append(q.order, p)
	q.mu.Unlock()
	return q.fakePasswords.Compare(ctx, hash, p)
}

// try is do for another goroutine; it returns false if ctx ended first.
func (f *front) try(ctx context.Context, c call) (answer, bool) {
	body, _ := json.Marshal(c.body)
	req, err := http.NewRequestWithContext(ctx, c.method, f.url+c.path, bytes.NewReader(body))
	if err != nil {
		return answer{}, false
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	res, err := f.client.Do(req)
	if err != nil {
		return answer{}, false
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, got}, err == nil
}

// TestHostileWaitingLogIns lets 150 log-ins wait, of one network and of many.
func TestHostileWaitingLogIns(t *testing.T) {
	t.Parallel()
	const crowd = 150
	for name, c := range map[string]struct {
		addr    string // of the nth
		wait    int
		refusal string
		device  bool // whether the owner needs a known device to get in
	}{
		"different /64s of one /48":   {"2001:db8:1:%x::1", 16, "429 too_many_sign_ins", false},
		"different /48s of one /32":   {"2001:db8:%x::1", 32, "429 too_many_sign_ins", false},
		"networks all over the world": {"2001:%x::1", 64, "503 sign_in_busy", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := &queued{turns: make(chan struct{}, 1), queue: fair.NewQueue(fair.QueueConfig{
				Run: 1, Wait: 64, One: 8, Site: 12, Network: 16, WaitKnown: 64, EachKnown: 4, Patience: time.Hour,
			})}
			f := newFront(t, func(c *Config) { behindProxy(c); c.Accounts.Passwords = q; c.Timeout = time.Hour })
			f.signUp("ada@example.com")
			q.turns <- struct{}{}
			began := time.Now()
			device := f.want(200, from(elsewhere, login("ada@example.com", canary))).field(t, "device_token")
			alone := time.Since(began)

			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			refused := make(chan string, crowd)
			var all sync.WaitGroup
			defer all.Wait()
			defer leave()
			for n := range crowd {
				all.Go(func() {
					if a, ok := f.try(ctx, from(fmt.Sprintf(c.addr, 0x100*(n+1)), login(fmt.Sprintf("no%d@example.com", n), wrongPassword))); ok {
						refused <- fmt.Sprint(a.status, " ", a.field(t, "code"), a.header.Get("Retry-After") != "")
					}
				})
			}
			for n := range crowd - c.wait - 1 { // one is at work
				select {
				case got := <-refused:
					if got != c.refusal+"true" {
						t.Fatalf("refused: %s, want %s", got, c.refusal)
					}
				case <-time.After(time.Minute):
					_, waiting, _ := q.queue.Used()
					t.Fatalf("%d refused, %d wait, want %d", n, waiting, c.wait)
				}
			}
			if _, waiting, _ := q.queue.Used(); waiting != c.wait {
				t.Errorf("%d wait, want %d", waiting, c.wait)
			}
			owner := login("ada@example.com", canary)
			if c.device {
				f.want(503, from(elsewhere, owner))
				owner = logInWith("ada@example.com", canary, device)
			}
			began = time.Now()
			in := make(chan answer, 1)
			go func() {
				a, _ := f.try(t.Context(), from(elsewhere, owner))
				in <- a
			}()
			for _, strangers, known := q.queue.Used(); strangers+known == c.wait; _, strangers, known = q.queue.Used() {
				<-time.After(time.Millisecond) // until the owner waits
			}
			for done := false; !done; {
				select {
				case q.turns <- struct{}{}:
				case a := <-in:
					if done = true; a.status != 200 {
						t.Fatalf("the owner's log-in: got %d %s, want 200", a.status, a.body)
					}
				}
			}
			t.Logf("the owner's log-in beside %d that wait: %s; alone: %s", c.wait, time.Since(began), alone)
			q.mu.Lock()
			defer q.mu.Unlock()
			if at := slices.Index(q.order[1:], canary); at > 2 { // the one at work, and one of the crowd
				t.Errorf("log-ins before the owner's: got %d, want at most 2", at)
			}
		})
	}
}

func TestWhatALogInCountsAgainst(t *testing.T) {
	t.Parallel()
	list := func() []tally { return []tally{{key: "address", ofAddress: true}, {key: "account"}} }
	busy := &domain.Error{Kind: domain.Exhausted, Code: "too_many_sign_ins"}
	for name, c := range map[string]struct {
		err  error
		back string // what it does not count against
	}{
		"a log-in":               {nil, "[address account]"},
		"a wrong password":       {commands.ErrCredentials, "[]"},
		"its share of the queue": {fmt.Errorf("compare password: %w", busy), "[account]"},
		"a full queue":           {&domain.Error{Kind: domain.Unavailable}, "[address account]"},
		"a suspended account":    {account.ErrSuspended, "[address account]"},
		"a lost database":        {io.EOF, "[address account]"},
	} {
		keys := []string{}
		for _, t := range notAtFault(list(), c.err) {
			keys = append(keys, t.key)
		}
		if got := fmt.Sprint(keys); got != c.back {
			t.Errorf("%s: %s, want %s", name, got, c.back)
		}
	}
}

// TestRightPasswordsHaveABoundToo repeats log-ins with the right password: each costs a hash and a session in the
// log. Wrong passwords do not count against this limit.
func TestRightPasswordsHaveABoundToo(t *testing.T) {
	t.Parallel()
	f := newFront(t, behindProxy)
	f.signUp("eve@example.com")
	f.signUp("ada@example.com")
	n := 0
	for f.do(from(hostile, login("eve@example.com", canary))).status == 200 {
		if n++; n > 100 {
			t.Fatalf("concurrent log-ins to one account: got %d, want at most 100", n)
		}
	}
	if n != 60 {
		t.Errorf("%d log-ins, want 60", n)
	}
	f.want(429, from(elsewhere, login("eve@example.com", canary)))
	for n := range 5 {
		f.guess(fmt.Sprintf("10.%d.0.1", n), "ada@example.com")
	}
	f.want(200, from(hostile, login("ada@example.com", canary)))
	f.clock.advance(6 * time.Minute)
	f.want(200, from(elsewhere, login("eve@example.com", canary)))
}
