package secrets

import (
	"strings"
	"testing"
)

// Made with Python's passlib 1.7.4 and bcrypt 3.2.2, as the original hashes.
const (
	hashOf12    = "$2b$12$Aca.WvyXxu6v3K8dmPFupOpEXH122DQ9uklhesUZbvbmeZ8K4WJVG" // correct horse battery
	hashOfLong  = "$2b$04$JAbqkVO/LFn0HM9roRq0De3dPAgiEeIIdooguJ.QTg9Cf7jkRuIu." // 40 × ä, tail that bcrypt never saw
	hashOfShort = "$2b$04$B/4Of9V1mAoqd7yUvGch1.fxcNE75oIEUTYVSwVO13KWgppEJQLhS" // hi
	hashOf72    = "$2b$04$iXLGy05bar3mJ7QKNE6fneWfHkFok9UxDMcF9ckXP5TS3JtqoK80i" // 72 × x
	hashOfSplit = "$2b$04$kn97yIjTBcPfdWHN4bsSBOTlDw0BhW6Y63Yfdf.7EX6aQRdgkaRrK" // a, 50 × ä: cut within a character
)

func TestOriginalHashesStayGood(t *testing.T) {
	t.Parallel()
	p := cheap()
	long := strings.Repeat("ä", 40) + "tail that bcrypt never saw"
	for _, c := range []struct {
		what, hash, password string
		want                 bool
	}{
		{"the original's default cost", hashOf12, "correct horse battery", true},
		{"a wrong password", hashOf12, "correct horse batterz", false},
		{"no password", hashOf12, "", false},
		{"over 72 bytes", hashOfLong, long, true},
		{"over 72 bytes, cut there", hashOfLong, strings.Repeat("ä", 36), true},
		{"over 72 bytes, one missing before", hashOfLong, strings.Repeat("ä", 35), false},
		{"a short one", hashOfShort, "hi", true},
		{"a short one, wrong", hashOfShort, "ho", false},
		{"72 bytes", hashOf72, strings.Repeat("x", 72), true},
		{"71 bytes", hashOf72, strings.Repeat("x", 71), false},
		{"at our limit of bytes", hashOf72, strings.Repeat("x", maxBytes), true},
		{"beyond our limit of bytes", hashOf72, strings.Repeat("x", 5*maxBytes), true},
		{"cut within a character", hashOfSplit, "a" + strings.Repeat("ä", 50), true},
	} {
		hash, err := OriginalHash(c.hash)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := p.Compare(t.Context(), hash, c.password); ok != c.want || err != nil {
			t.Errorf("%s: got %v, %v, want %v", c.what, ok, err, c.want)
		}
		if !p.Outdated(hash) {
			t.Errorf("%s: got a hash that stays, want one that is replaced", c.what)
		}
	}
	ours := must[[]byte](t)(p.Hash(t.Context(), long))
	if p.Outdated(ours) || p.Outdated(nil) {
		t.Error("got our own hash as outdated, want it to stay")
	}
	// Ours knows the whole password.
	if ok, err := p.Compare(t.Context(), ours, long+"x"); ok || err != nil {
		t.Errorf("a longer password against our own hash: got %v, %v, want false", ok, err)
	}
}

func TestOnlyBcryptIsImported(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "plain text", "$argon2id$v=19$m=65536", "$2x$12$" + hashOf12[7:], "$2$12$" + hashOf12[7:], hashOf12[:59], hashOf12 + "a", hashOf12 + "\n",
		"$2b$15$" + hashOf12[7:], "$2b$31$" + hashOf12[7:], "$2b$03$" + hashOf12[7:], "original:" + hashOf12,
	} {
		hash, err := OriginalHash(text)
		if err == nil {
			t.Errorf("%q: got %q, want an error", text, hash)
		} else if len(text) > 20 && strings.Contains(err.Error(), text[10:]) {
			t.Errorf("%q: got %v, want an error without the hash", text, err)
		}
	}
}
