package secrets

import (
	"errors"
	"strings"
	"testing"
)

func TestEnrolmentTokens(t *testing.T) {
	t.Parallel()
	e := NewEnrolment(ring(t, keyA, keyB))
	key := e.CurrentKey()
	token := must[string](t)(e.Token("01JI", 2, key))
	if again := must[string](t)(NewEnrolment(ring(t, keyB, keyA)).Token("01JI", 2, key)); again != token {
		t.Fatal("another replica derived another token during a rotation")
	}
	id, attempt, err := e.Parse(token)
	if err != nil || id != "01JI" || attempt != 2 || !e.Verify(token, key) {
		t.Fatalf("got %s, %d, %v, want no error, id \"01JI\", attempt 2 and e.Verify(token, key) true", id, attempt, err)
	}
	other := ring(t, keyB).Current()
	mac := token[strings.LastIndex(token, ".")+1:]
	for name, bad := range map[string]struct{ token, key string }{
		"another key":      {token, other},
		"unknown key":      {token, "nope"},
		"another attempt":  {"01JI.3." + mac, key},
		"another instance": {"01JJ.2." + mac, key},
		"last bit":         {flipLast(token), key},
		"empty":            {"", key},
	} {
		if e.Verify(bad.token, bad.key) {
			t.Errorf("%s: accepted, want e.Verify(bad.token, bad.key) false", name)
		}
	}
	for _, bad := range []string{
		"", ".", "..", "01JI.2", "01JI.2." + mac + ".x", "01JI.02." + mac, "01JI.0." + mac, "01JI.-1." + mac, "01JI.+2." + mac,
		"01 JI.2." + mac, ".2." + mac, "01JI.99999999999999999999." + mac, "01JI.2." + mac[1:], strings.Repeat("x", 1000) + ".2." + mac,
	} {
		if _, _, err := e.Parse(bad); !errors.Is(err, ErrEnrolmentToken) {
			t.Errorf("%q: got %v, want error %v", bad, err, ErrEnrolmentToken)
		}
	}
	for _, c := range []struct {
		id      string
		attempt int
		key     string
	}{{"", 1, key}, {"a.b", 1, key}, {"a", 0, key}, {"a", 1, "nope"}} {
		if _, err := e.Token(c.id, c.attempt, c.key); err == nil {
			t.Errorf("%+v: accepted, want an error", c)
		}
	}
}

// flipLast changes the last character to another that decodes to the same bytes, if base64 is lax.
func flipLast(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[i^1])
}

func FuzzEnrolmentParse(f *testing.F) {
	e := NewEnrolment(ring(f, keyA))
	good, err := e.Token("01JI", 1, e.CurrentKey())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("a.1.")
	f.Fuzz(func(t *testing.T, token string) {
		id, attempt, err := e.Parse(token)
		if err != nil {
			if e.Verify(token, e.CurrentKey()) {
				t.Fatal("verified a token that does not parse")
			}
			return
		}
		want, err := e.Token(id, attempt, e.CurrentKey())
		if err != nil || e.Verify(token, e.CurrentKey()) != (token == want) {
			t.Fatalf("%q: got %v, want no error and to be (token == want)", token, err)
		}
	})
}
