package guest

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// shapes lists texts with a secret, %s, which must be removed while the rest may stay.
var shapes = []string{
	"aws_secret_access_key = %s", "AWS_SECRET_ACCESS_KEY=%s", `"SecretAccessKey": "%s",`, "SECRET_KEY_BASE='%s'", "export DB_PASSWORD=\"%s\"",
	"secret_value: %s", "mytokens: %s", "ssh_key=%s", "_authToken=%s", "//registry.npmjs.org/:_authToken=%s",
	"https://user:%s@example.org/path", "postgres://app:%s@db:5432/x", "git clone https://%s@github.com/a/b", "redis://:%s@cache",
	"xoxb-%s", "xapp-%s", "npm_%s", "ghp_%s", "github_pat_%s", "glpat-%s", "sk-ant-%s", "gsk_%s", "sk_live_%s",
	"https://b.s3.amazonaws.com/o?X-Amz-Algorithm=A&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%%2F%s&X-Amz-Expires=60", "GET /o?X-Amz-Signature=%s",
	`{"url":"/o?X-Amz-Signature=%s\u0026x=1"}`, "Authorization: AWS4-HMAC-SHA256 Credential=%s, SignedHeaders=host", "Signature=%s",
	"Bearer %s", "curl -H 'Authorization: Bearer %s'", "authorization: Basic %s", "got bearer %s from it",
	"--password %s", "--api-key=%s", `login --token "%s"`, `msg="body {\"api_key\":\"%s\"}"`, `{"password":"a\"%s"}`, `key: password=%s`,
	"key: aws_secret_access_key = %s", "the key: password: %s", "--password = %s",
	`"key": "the password=%s of it"`,
	"-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----", "private_key: -----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n%s\n-----END RSA PRIVATE KEY-----",
	"-----BEGIN OPENSSH PRIVATE KEY-----\nMIIE%[1]s\n%[1]s\nab==\n-----END OPENSSH PRIVATE KEY-----", `"-----BEGIN EC PRIVATE KEY-----\n%s\n-----END EC PRIVATE KEY-----"`,
	"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n%s\n=abcd\n-----END PGP PRIVATE KEY BLOCK-----", "-----BEGIN PRIVATE KEY-----\n%s", "private_key: -----BEGIN PRIVATE KEY-----\n%s",
}

const canary = "CANARY7q9ZkP2mB4xT8vW1nR5sD3fG6hJ0"

// survives returns the part of secret that is still in text: six letters of it would be too many.
func survives(text, secret string) string {
	for i := 0; i+6 <= len(secret); i++ {
		if strings.Contains(text, secret[i:i+6]) {
			return secret[i : i+6]
		}
	}
	return ""
}

func TestSecretsOfEveryShapeGo(t *testing.T) {
	t.Parallel()
	var r Redactor
	for _, shape := range shapes {
		in := "before " + fmt.Sprintf(shape, canary) + " after"
		if strings.Contains(shape, "-----BEGIN") {
			in = "before\n" + fmt.Sprintf(shape, canary) + "\n<after>"
		}
		out := r.Clean(in)
		if left := survives(out, canary); left != "" {
			t.Errorf("%q leaves %q: got %q, want \"\"", shape, left, out)
		}
		if !strings.HasPrefix(out, "before") || !strings.HasSuffix(out, "after") && !strings.HasSuffix(out, "<after>") {
			t.Errorf("%q: got %q, want the text before and after it kept", shape, out)
		}
		whole := strings.Contains(shape, "-----END") || !strings.Contains(shape, "-----BEGIN")
		if again := r.Clean(out); again != out && whole {
			t.Errorf("cleaned again: got %q, want %q", again, out)
		}
	}
	if out := r.Clean("the id AKIAIOSFODNN7EXAMPLE is one"); out != "the id [redacted] is one" {
		t.Error(out)
	}
}

func TestOrdinaryTextStays(t *testing.T) {
	t.Parallel()
	var r Redactor
	for _, text := range []string{
		"nothing to hide: 1280x800", "risk-free task-force", "the key: press enter", "keys=2", "tokens: 4096", "max_tokens=200000 used", "keyboard: us",
		"monkey: banana", "Setting up libsecret-1-0:amd64 (0.20.5-3) ...", "Selecting previously unselected package libkeyutils1:amd64.",
		"the bearer certificate of a basic installation", "a secret is a secret", "password authentication", "http://localhost:8080/a@2x.png",
		"git@github.com:a/b.git", "ssh://git@github.com/a/b", "sessionKey=agent:main", "see https://example.org/key: it works", `"keys": ["OPENAI_API_KEY", "XAI_API_KEY"]`,
		`{"api_key": null, "secret": false}`, "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----", "npm_config_registry is set", "outputTokens: 12345",
		`level=INFO msg="starting the agent" keys=3`, "gpg: key 1A2B3C4D5E6F7081: public key imported", "2026-11-25T18:20:17.783+00:00 [gateway] rootRequests=1",
	} {
		if got := r.Clean(text); got != text {
			t.Errorf("%q became %q, want %v", text, got, text)
		}
	}
}

// logged returns the contents of the ring after a text arrived in pieces of n bytes.
func logged(text string, n int) string {
	l := NewLog(io.Discard, &Redactor{}, newPhases().present)
	w := l.Writer("p: ")
	for _, line := range strings.SplitAfter(text, "\n") {
		for len(line) > 0 {
			piece := line[:min(n, len(line))]
			_, _ = io.WriteString(w, piece)
			line = line[len(piece):]
		}
	}
	_, _ = io.WriteString(w, "\n")
	return l.Text()
}

func TestAPrivateKeyIsFollowedOverLines(t *testing.T) {
	t.Parallel()
	text := "one\n-----BEGIN RSA PRIVATE KEY-----\n" + strings.Repeat(canary+canary+"\n", 50) + "[4] another program's line\nQ7=\n-----END RSA PRIVATE KEY-----\ntwo\n"
	out := logged(text, 7)
	if left := survives(out, canary); left != "" || strings.Contains(out, "Q7=") {
		t.Errorf("%q is left: got %s, want left \"\" and no \"Q7=\" in out", left, out)
	}
	for _, want := range []string{"p: one\n", "p: [4] another program's line\n", "p: two\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is gone: got %s, want %q in out", want, out, want)
		}
	}
	// An unterminated key removes at most as many lines as a key can have.
	out = logged("-----BEGIN PRIVATE KEY-----\n"+strings.Repeat("word\n", keyLines+1), 1000)
	if n := strings.Count(out, "word"); n != 1 {
		t.Errorf("%d lines are left after a key without an end, want 1", n)
	}
}

func TestALineWithoutAnEndIsCutBetweenWords(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"aws_secret_access_key = " + canary, "Bearer " + canary, "--password " + canary, "sk-ant-" + canary} {
		for at := 0; at < 2*len(secret); at += 11 {
			if left := survives(logged(strings.Repeat("x ", (partialLine-at)/2)+secret+strings.Repeat(" y", 100), 4096), canary); left != "" {
				t.Fatalf("%q is left of %q, cut %d before the end, want \"\"", left, secret, at)
			}
		}
	}
}

// TestCleaningTakesLinearTime cleans texts on which a backtracking search would take exponential time.
func TestCleaningTakesLinearTime(t *testing.T) {
	t.Parallel()
	var r Redactor
	for _, part := range []string{"key:", "key: ", `key="`, `\"key\":\"`, "a", "-----BEGIN PRIVATE KEY-----", "https://a:", "token = ", "bearer "} {
		took := func(n int) time.Duration {
			text, began := strings.Repeat(part, n/len(part)), time.Now()
			r.Clean(text)
			return time.Since(began)
		}
		if small, large := took(2<<10), took(32<<10); large > 150*small+time.Second {
			t.Errorf("%q: %v for 16 times what takes %v, want at most %v", part, large, small, 150*small+time.Second)
		}
	}
}

// FuzzRedact puts a secret into each shape, between other text, and logs it in pieces.
func FuzzRedact(f *testing.F) {
	for i := range shapes {
		f.Add(i, "before", "after", uint64(i)*0x9e3779b97f4a7c15, 1+i)
	}
	f.Add(0, "token='", `key: "`, uint64(1), 3)
	f.Add(0, "key=", "", uint64(3), 3)
	f.Add(4, "-----BEGIN PRIVATE KEY-----", "", uint64(4), 3)
	f.Add(27, "-----BEGIN PRIVATE KEY-----", "0", uint64(2), 1<<20)
	f.Fuzz(func(t *testing.T, shape int, before, after string, seed uint64, piece int) {
		if shape < 0 || piece <= 0 || len(before)+len(after) > 4<<10 {
			return
		}
		const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
		secret := []byte("Q7")
		for len(secret) < 34 {
			seed = seed*6364136223846793005 + 1442695040888963407
			secret = append(secret, letters[seed>>33%uint64(len(letters))])
		}
		if survives(before+after, string(secret)) != "" || bytes.ContainsAny([]byte(before+after), "\r") {
			return
		}
		text := before + "\n" + fmt.Sprintf(shapes[shape%len(shapes)], secret) + "\n" + after
		var r Redactor
		if left := survives(r.Clean(text), string(secret)); left != "" {
			t.Errorf("%q of %q is left, want \"\"", left, text)
		}
		if left := survives(logged(text, piece), string(secret)); left != "" {
			t.Errorf("%q of %q is logged, in pieces of %d, want \"\"", left, text, piece)
		}
	})
}
