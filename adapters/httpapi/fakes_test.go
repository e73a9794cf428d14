package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// fakeTokens signs small JSON objects; a token of one kind is never valid as another.
type fakeTokens struct {
	key []byte
	now func() time.Time
}

type fakeClaims struct {
	Kind, Account, Session, ID string
	Expires                    time.Time
}

func (f fakeTokens) sign(c fakeClaims) string {
	text, _ := json.Marshal(c)
	body := base64.RawURLEncoding.EncodeToString(text)
	mac := hmac.New(sha256.New, f.key)
	mac.Write([]byte(body))
	return body + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (f fakeTokens) parse(kind, token string) (c fakeClaims, err error) {
	body, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, err
	}
	if !hmac.Equal([]byte(f.sign(c)), []byte(token)) || c.Kind != kind || !f.now().Before(c.Expires) {
		return c, errors.New("bad token")
	}
	return c, nil
}

func (f fakeTokens) Access(account, session string, now time.Time) (string, time.Time) {
	expires := now.Add(time.Hour)
	return f.sign(fakeClaims{"access", account, session, "", expires}), expires
}

func (f fakeTokens) ParseAccess(token string) (access.Claims, error) {
	c, err := f.parse("access", token)
	return access.Claims{Account: c.Account, Session: c.Session, ExpiresAt: c.Expires}, err
}

func (f fakeTokens) Refresh(account, session string, leaf session.Leaf) string {
	return f.sign(fakeClaims{"refresh", account, session, leaf.TokenID, leaf.ExpiresAt})
}

func (f fakeTokens) ParseRefresh(token string) (account, session, tokenID string, err error) {
	c, err := f.parse("refresh", token)
	return c.Account, c.Session, c.ID, err
}

// fakeTickets keeps tickets in a map; Redeem takes them out.
type fakeTickets struct {
	now    func() time.Time
	mu     sync.Mutex
	issued map[string]access.Ticket
}

var errTicket = &domain.Error{Kind: domain.Unauthenticated, Code: "bad_ticket", Msg: "bad ticket"}

func (f *fakeTickets) Issue(_ context.Context, t access.Ticket) (string, time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	token := "tkt-" + t.Kind + "-" + t.Mode + "-" + base64.RawURLEncoding.EncodeToString([]byte(f.now().String()))
	f.issued[token] = t
	return token, f.now().Add(30 * time.Second), nil
}

func (f *fakeTickets) Redeem(_ context.Context, token string) (access.Ticket, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.issued[token]
	delete(f.issued, token)
	if !ok {
		return t, errTicket
	}
	return t, nil
}

func (f *fakeTickets) Peek(_ context.Context, token string) (access.Ticket, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.issued[token]
	if !ok {
		return t, errTicket
	}
	return t, nil
}

// fakeBridges echoes until the client disconnects or the session ends.
type fakeBridges struct {
	mu     sync.Mutex
	opened []access.BridgeSession
	seen   []http.Header
	away   bool // no machine can be reached
}

func (f *fakeBridges) Check(w http.ResponseWriter, _ *http.Request, kind string, _ access.BridgeSession) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = w.Write([]byte(`{"type":"about:blank","request_id":"r","status":502,"title":"Bad Gateway","code":"machine_unreachable","detail":"` + kind + `"}`))
	}
	return !f.away
}

func (f *fakeBridges) ServeVNC(w http.ResponseWriter, r *http.Request, b access.BridgeSession) {
	f.serve(w, r, b)
}

func (f *fakeBridges) ServeAgent(w http.ResponseWriter, r *http.Request, b access.BridgeSession) {
	f.serve(w, r, b)
}

func (f *fakeBridges) serve(w http.ResponseWriter, r *http.Request, b access.BridgeSession) {
	f.mu.Lock()
	f.opened, f.seen = append(f.opened, b), append(f.seen, r.Header.Clone())
	f.mu.Unlock()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}, InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-b.Revoked:
			_ = conn.Close(4401, "")
		case <-b.Gone:
			_ = conn.Close(4404, "")
		case <-ctx.Done():
		}
	}()
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil || conn.Write(ctx, kind, data) != nil {
			return
		}
	}
}

func (f *fakeBridges) last() (access.BridgeSession, http.Header) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.opened) == 0 {
		return access.BridgeSession{}, nil
	}
	return f.opened[len(f.opened)-1], f.seen[len(f.seen)-1]
}

// fakeVault seals by adding the owner and label, so that a wrong one is noticed. It encodes in base64, so that
// tests can search for plain text.
type fakeVault struct{}

func (fakeVault) NewKey(context.Context, string) error  { return nil }
func (fakeVault) DropKey(context.Context, string) error { return nil }

func (fakeVault) Seal(_ context.Context, account, label string, plain []byte) ([]byte, error) {
	return []byte(base64.StdEncoding.EncodeToString([]byte(account + "|" + label + "|" + string(plain)))), nil
}

func (fakeVault) Open(_ context.Context, account, label string, sealed []byte) ([]byte, error) {
	text, err := base64.StdEncoding.DecodeString(string(sealed))
	plain, ok := strings.CutPrefix(string(text), account+"|"+label+"|")
	if err != nil || !ok {
		return nil, errors.New("sealed for another account")
	}
	return []byte(plain), nil
}

type fakePasswords struct{}

func (fakePasswords) Check(p, _ string) error {
	if len(p) < 8 || len(p) > 72 {
		return &domain.Error{Kind: domain.Invalid, Code: "weak_password", Msg: "A password has 8 to 256 characters."}
	}
	return nil
}

func (fakePasswords) Hash(_ context.Context, p string) ([]byte, error) {
	sum := sha256.Sum256([]byte(p))
	return sum[:], nil
}

func (fakePasswords) Outdated([]byte) bool { return false }

func (fakePasswords) Compare(_ context.Context, hash []byte, p string) (bool, error) {
	sum := sha256.Sum256([]byte(p))
	return hmac.Equal(hash, sum[:]), nil
}

// fakeCloud has only a region and types.
type fakeCloud struct{ machines.Cloud }

func (fakeCloud) Region() string { return "test-1" }

func (fakeCloud) Types() []machines.MachineType {
	return []machines.MachineType{{ID: "t3.large", CPUs: 2, Memory: 8 << 10}, {ID: "t3.xlarge", CPUs: 4, Memory: 16 << 10}}
}

func (fakeCloud) Freeze(machines.LaunchPlan) (instance.Spec, error) {
	return instance.Spec{}, errors.New("not here")
}

// fakeChats has the saved chats of instances, for the accounts that own them.
type fakeChats struct {
	text string // of every instance; "": none
	find func(ctx context.Context, account, id string) (instance.State, error)
}

var savedAt = time.Date(2026, 11, 28, 14, 3, 0, 0, time.UTC)

func (f fakeChats) Read(ctx context.Context, account, id string) ([]byte, time.Time, error) {
	if _, err := f.find(ctx, account, id); err != nil {
		return nil, time.Time{}, err
	}
	if f.text == "" {
		return nil, time.Time{}, commands.ErrNoChats
	}
	return []byte(f.text), savedAt, nil
}
