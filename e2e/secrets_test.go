package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
)

// TestSecretsAreNowhere stores canaries and then looks for them in everything the server stores or prints.
func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	s := newServer(t, "LOG_LEVEL=debug")
	stripe, settings := startStripe(t, s)
	s.env = append(s.env, settings...)
	s.start()
	canaries := map[string]string{
		"API key":  "sk-ant-api03-CANARYcanaryCANARYcanary-7f3a",
		"e-mail":   "canary.person@example.com",
		"password": "canary pass phrase 4711",
		"name":     "Canary's own desktop",
	}
	u := &client{t: t, base: s.URL}
	login := u.must(http.StatusCreated, "POST", "/api/auth/signup", `{"email":"`+canaries["e-mail"]+`","password":"`+canaries["password"]+`"}`)
	u.token = login.field("access_token")
	canaries["access token"], canaries["refresh token"] = login.field("access_token"), login.field("refresh_token")
	u.must(http.StatusCreated, "POST", "/api/user/api-keys", `{"provider":"anthropic","api_key":"`+canaries["API key"]+`"}`)
	canaries["Stripe key"], canaries["webhook secret"], canaries["signature"] = stripetest.DefaultKey, stripetest.DefaultSecret, strings.Repeat("c0ffee", 11)[:64]
	u.do("POST", "/api/payments/webhook", `{}`, "Stripe-Signature", "t=1,v1="+canaries["signature"])
	pay := u.must(http.StatusOK, "POST", "/api/payments/create-checkout", `{"plan_type":"pro","success_url":"`+s.URL+`/app/plan","cancel_url":"`+s.URL+`/app/plan"}`)
	if err := stripe.Pay(pay.field("session_id"), "4242424242424242", ""); err != nil {
		t.Fatal(err)
	}
	u.must(http.StatusOK, "POST", "/api/payments/sync", "")
	canaries["payment page"] = pay.field("checkout_url")
	canaries["portal"] = u.must(http.StatusOK, "POST", "/api/payments/portal", `{"return_url":"`+s.URL+`/app/plan"}`).field("portal_url")
	var invoices struct{ Invoices []struct{ URL string } }
	if err := json.Unmarshal(u.must(http.StatusOK, "GET", "/api/payments/invoices", "").body, &invoices); err != nil || len(invoices.Invoices) != 1 {
		t.Fatalf("invoices: got %+v, %v, want one", invoices, err)
	}
	canaries["invoice"] = invoices.Invoices[0].URL
	id := u.must(http.StatusAccepted, "POST", "/api/instances", `{"name":"`+canaries["name"]+`"}`).field("id")
	u.awaitInstance(id, "ready", "true")
	if _, _, err := u.chat(id, "hello"); err != nil {
		t.Fatal(err)
	}
	// Errors must not reveal them either.
	u.do("POST", "/api/user/api-keys", `{"provider":"unknown","api_key":"`+canaries["API key"]+`"}`)
	u.do("POST", "/api/auth/login", `{"email":"`+canaries["e-mail"]+`","password":"`+canaries["password"]+`","x":1}`)

	places := map[string][]byte{"the log": []byte(s.cli("events"))}
	places["metrics"] = s.admin("/metrics")
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		places[p], _ = os.ReadFile(p)
	}
	s.stop() // so that everything is on disk
	places["the server's output"] = []byte(s.out.tail(10 << 20))
	files := 0
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		places[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	looked := map[string][][]byte{}
	for what, canary := range canaries {
		for _, form := range forms(canary) {
			looked[what] = append(looked[what], lower([]byte(form)))
		}
	}
	for place, text := range places {
		text = lower(text)
		for what, forms := range looked {
			for _, form := range forms {
				if holds(text, form) {
					t.Errorf("the %s: got %q in %s, want it nowhere", what, form, place)
				}
			}
		}
	}
	t.Logf("looked for %d canaries in %d places, %d of them files", len(canaries), len(places), files)
	s.start()
	u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
	u.awaitInstance(id, "status", "terminated")
}

// forms returns how a text may be encoded: plain, in hex, and in base64 at each alignment, without the characters at
// either end that depend on their neighbours.
func forms(text string) []string {
	list := []string{text, hex.EncodeToString([]byte(text))}
	for shift := range 3 {
		b := base64.StdEncoding.EncodeToString(append(make([]byte, shift), text...))
		list = append(list, strings.TrimRight(b, "=")[4*min(shift, 1):len(strings.TrimRight(b, "="))-3])
	}
	return list
}

// lower returns ASCII text in lower case, and leaves other bytes as they are.
func lower(text []byte) []byte {
	low := make([]byte, len(text))
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	return low
}

// holds reports whether form occurs in text. It looks for the beginning of form first: only a short text is found by
// instructions that compare many bytes at a time, and the places have 100 MB.
func holds(text, form []byte) bool {
	begin := form[:min(len(form), 32)]
	for {
		i := bytes.Index(text, begin)
		if i < 0 || bytes.HasPrefix(text[i:], form) {
			return i >= 0
		}
		text = text[i+1:]
	}
}
