package secrets

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

const (
	accessSecret  = "access-0123456789abcdefghijklmnopqrstuvwxyz"
	refreshSecret = "refresh-0123456789abcdefghijklmnopqrstuvwxyz"
	otherSecret   = "other-0123456789abcdefghijklmnopqrstuvwxyz"
)

var at = time.Unix(1_800_000_000, 0).UTC()

func tokensAt(t testing.TB, now time.Time, access, refresh string) *Tokens {
	t.Helper()
	return must[*Tokens](t)(NewTokens(TokensConfig{
		AccessKeys: SplitKeys(access), RefreshKeys: SplitKeys(refresh), Now: func() time.Time { return now },
	}))
}

func leaf() session.Leaf {
	return session.Leaf{Generation: 3, TokenID: "01JT", IssuedAt: at, ExpiresAt: at.Add(session.Idle)}
}

func TestTokensRoundTrip(t *testing.T) {
	t.Parallel()
	k := tokensAt(t, at, accessSecret, refreshSecret)
	token, expires := k.Access("acc", "ses", at.Add(999*time.Millisecond))
	c := must[access.Claims](t)(k.ParseAccess(token))
	if c.Account != "acc" || c.Session != "ses" || len(c.TokenID) != 32 || !c.ExpiresAt.Equal(expires) || !expires.Equal(at.Add(time.Hour)) {
		t.Fatalf("got %+v, %s, want c.Account \"acc\", c.Session \"ses\", len(c.TokenID) 32, c.ExpiresAt %v and expires at.Add(time.Hour)", c, expires, expires)
	}
	if again, _ := k.Access("acc", "ses", at); again == token {
		t.Fatal("got the same access token twice, want two")
	}
	refresh := k.Refresh("acc", "ses", leaf())
	account, sessionID, id, err := k.ParseRefresh(refresh)
	if err != nil || account != "acc" || sessionID != "ses" || id != "01JT" {
		t.Fatalf("got %s %s %s %v, want no error, account \"acc\", sessionID \"ses\" and id \"01JT\"", account, sessionID, id, err)
	}
	// As read from the log by another process: the times have been through JSON.
	var stored session.Leaf
	if err := json.Unmarshal(must[[]byte](t)(json.Marshal(leaf())), &stored); err != nil {
		t.Fatal(err)
	}
	stored.IssuedAt = stored.IssuedAt.In(time.FixedZone("elsewhere", 3600))
	if again := tokensAt(t, at.Add(time.Hour), accessSecret, refreshSecret).Refresh("acc", "ses", stored); again != refresh {
		t.Fatalf("not the same bytes, want %v\n%s\n%s", refresh, refresh, again)
	}
}

func TestTokenKindsAreNotInterchangeable(t *testing.T) {
	t.Parallel()
	k := tokensAt(t, at, accessSecret, refreshSecret)
	access, _ := k.Access("acc", "ses", at)
	refresh := k.Refresh("acc", "ses", leaf())
	if _, err := k.ParseAccess(refresh); !errors.Is(err, ErrToken) {
		t.Errorf("a refresh token gives access: got %v, want error %v", err, ErrToken)
	}
	if _, _, _, err := k.ParseRefresh(access); !errors.Is(err, ErrToken) {
		t.Errorf("an access token refreshes: got %v, want error %v", err, ErrToken)
	}
}

func TestTokenTimes(t *testing.T) {
	t.Parallel()
	token, expires := tokensAt(t, at, accessSecret, refreshSecret).Access("acc", "ses", at)
	for _, c := range []struct {
		name string
		now  time.Time
		want error
	}{
		{"new", at, nil},
		{"clocks differ a little", at.Add(-4 * time.Second), nil},
		{"from the future", at.Add(-time.Minute), ErrToken},
		{"last moment", expires.Add(-time.Second), nil},
		{"over", expires.Add(leeway), ErrTokenExpired},
		{"long over", expires.Add(1000 * time.Hour), ErrTokenExpired},
	} {
		if _, err := tokensAt(t, c.now, accessSecret, refreshSecret).ParseAccess(token); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want error %v", c.name, err, c.want)
		}
	}
}

func TestTokenKeysRotate(t *testing.T) {
	t.Parallel()
	old, _ := tokensAt(t, at, accessSecret, refreshSecret).Access("acc", "ses", at)
	both := tokensAt(t, at, otherSecret+", "+accessSecret, refreshSecret)
	must[access.Claims](t)(both.ParseAccess(old))
	fresh, _ := both.Access("acc", "ses", at)
	must[access.Claims](t)(tokensAt(t, at, otherSecret, refreshSecret).ParseAccess(fresh))
	if _, err := tokensAt(t, at, otherSecret, refreshSecret).ParseAccess(old); !errors.Is(err, ErrToken) {
		t.Errorf("a retired key still opens: got %v, want error %v", err, ErrToken)
	}
}

// forge signs any header and claims.
func forge(t testing.TB, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	for k, v := range header {
		token.Header[k] = v
	}
	return must[string](t)(token.SignedString(key))
}

func TestForgedTokensAreRefused(t *testing.T) {
	t.Parallel()
	k := tokensAt(t, at, accessSecret, refreshSecret)
	header := func(change func(map[string]any)) map[string]any {
		h := map[string]any{"typ": accessType, "kid": k.access.sign}
		if change != nil {
			change(h)
		}
		return h
	}
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		c := jwt.MapClaims{
			"iss": issuer, "aud": accessFor, "sub": "acc", "sid": "ses", "jti": "id",
			"iat": at.Unix(), "nbf": at.Unix(), "exp": at.Add(time.Hour).Unix(),
		}
		if change != nil {
			change(c)
		}
		return c
	}
	without := func(name string) jwt.MapClaims { return claims(func(c jwt.MapClaims) { delete(c, name) }) }
	with := func(name string, v any) jwt.MapClaims { return claims(func(c jwt.MapClaims) { c[name] = v }) }
	hs := func(h map[string]any, c jwt.MapClaims) string {
		return forge(t, jwt.SigningMethodHS256, []byte(accessSecret), h, c)
	}
	if _, err := k.ParseAccess(hs(header(nil), claims(nil))); err != nil {
		t.Fatalf("the forger does not forge well: %v", err)
	}
	private := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	good, _ := k.Access("acc", "ses", at)
	fields := strings.Split(good, ".")
	cases := map[string]string{
		"empty":            "",
		"not a token":      "a.b.c",
		"two fields":       fields[0] + "." + fields[1],
		"no signature":     fields[0] + "." + fields[1] + ".",
		"none":             forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, header(nil), claims(nil)),
		"none, spelled":    base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"nOnE","typ":"at+jwt","kid":"`+k.access.sign+`"}`)) + "." + fields[1] + ".",
		"other algorithm":  forge(t, jwt.SigningMethodHS512, []byte(accessSecret), header(nil), claims(nil)),
		"public key":       forge(t, jwt.SigningMethodRS256, private, header(nil), claims(nil)),
		"other secret":     forge(t, jwt.SigningMethodHS256, []byte(otherSecret), header(nil), claims(nil)),
		"refresh secret":   forge(t, jwt.SigningMethodHS256, []byte(refreshSecret), header(nil), claims(nil)),
		"empty secret":     forge(t, jwt.SigningMethodHS256, []byte{}, header(nil), claims(nil)),
		"no kid":           hs(header(func(h map[string]any) { delete(h, "kid") }), claims(nil)),
		"unknown kid":      hs(header(func(h map[string]any) { h["kid"] = "../../dev/null" }), claims(nil)),
		"kid is a number":  hs(header(func(h map[string]any) { h["kid"] = 7 }), claims(nil)),
		"plain typ":        hs(header(func(h map[string]any) { h["typ"] = "JWT" }), claims(nil)),
		"refresh typ":      hs(header(func(h map[string]any) { h["typ"] = refreshType }), claims(nil)),
		"no issuer":        hs(header(nil), without("iss")),
		"other issuer":     hs(header(nil), with("iss", "evil")),
		"no audience":      hs(header(nil), without("aud")),
		"refresh audience": hs(header(nil), with("aud", refreshFor)),
		"no expiry":        hs(header(nil), without("exp")),
		"no nbf":           hs(header(nil), without("nbf")),
		"not yet":          hs(header(nil), with("nbf", at.Add(time.Minute).Unix())),
		"issued tomorrow":  hs(header(nil), with("iat", at.Add(24*time.Hour).Unix())),
		"no iat":           hs(header(nil), without("iat")),
		"no jti":           hs(header(nil), without("jti")),
		"no subject":       hs(header(nil), without("sub")),
		"no session":       hs(header(nil), without("sid")),
		"expiry is text":   hs(header(nil), with("exp", "never")),
		"too long":         hs(header(nil), with("pad", strings.Repeat("x", maxToken))),
		"trailing":         good + ".",
		"white space":      good + "\n",
	}
	for name, token := range cases {
		if c, err := k.ParseAccess(token); !errors.Is(err, ErrToken) {
			t.Errorf("%s: got %+v, %v, want error %v", name, c, err, ErrToken)
		}
	}
	if _, err := k.ParseAccess(hs(header(nil), with("exp", at.Add(-time.Hour).Unix()))); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("expired: got %v, want error %v", err, ErrTokenExpired)
	}
}

func TestWeakTokenSecretsAreRefused(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]TokensConfig{
		"none":         {},
		"no refresh":   {AccessKeys: []string{accessSecret}},
		"short":        {AccessKeys: []string{"short"}, RefreshKeys: []string{refreshSecret}},
		"second short": {AccessKeys: []string{accessSecret, "short"}, RefreshKeys: []string{refreshSecret}},
		"the same":     {AccessKeys: []string{accessSecret}, RefreshKeys: []string{otherSecret, accessSecret}},
	} {
		if _, err := NewTokens(cfg); err == nil {
			t.Errorf("%s: accepted, want an error", name)
		} else if strings.Contains(err.Error(), accessSecret) {
			t.Errorf("%s: the error tells the secret, want no %q in err.Error()", name, accessSecret)
		}
	}
}

func FuzzParseAccess(f *testing.F) {
	k := tokensAt(f, at, accessSecret, refreshSecret)
	good, _ := k.Access("acc", "ses", at)
	f.Add(good[:len(good)-1])
	f.Add(k.Refresh("acc", "ses", leaf()))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if c, err := k.ParseAccess(token); err == nil && token != good {
			t.Fatalf("got %+v of a forged token, want an error", c)
		}
	})
}
