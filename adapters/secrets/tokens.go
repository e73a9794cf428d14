package secrets

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// Refusals of a token.
var (
	ErrToken        = &domain.Error{Kind: domain.Unauthenticated, Code: "token_invalid", Msg: "This token is not valid; log in again."}
	ErrTokenExpired = &domain.Error{Kind: domain.Unauthenticated, Code: "token_expired", Msg: "This token has expired; refresh it or log in again."}
)

const (
	// AccessLife is how long an access token is valid.
	AccessLife = time.Hour
	// maxToken bounds the bytes that are parsed; our tokens have about 400.
	maxToken = 4 << 10
	// leeway is how much the clocks of replicas may differ.
	leeway = 5 * time.Second

	issuer      = "cloudbot"
	accessType  = "at+jwt" // RFC 9068
	refreshType = "rt+jwt"
	accessFor   = "cloudbot-api"
	refreshFor  = "cloudbot-refresh"
)

// TokensConfig holds the signing secrets. The first of each kind signs; the others only verify.
type TokensConfig struct {
	AccessKeys  []string         // JWT_SECRET_KEY; required
	RefreshKeys []string         // JWT_REFRESH_SECRET_KEY; required
	Issuer      string           // "": "cloudbot"
	Now         func() time.Time // nil: time.Now
}

// SplitKeys splits a setting that holds one or several secrets separated by commas.
func SplitKeys(setting string) []string {
	var keys []string
	for _, k := range strings.Split(setting, ",") {
		if k = strings.TrimSpace(k); k != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

// Tokens makes and reads access and refresh tokens. The two kinds have different keys, types and audiences, so
// neither is accepted as the other.
type Tokens struct {
	access, refresh kind
	issuer          string
	now             func() time.Time
}

// kind describes one kind of token.
type kind struct {
	typ, audience string
	sign          string            // kid of the signing key
	keys          map[string][]byte // by kid
	parser        *jwt.Parser
}

type wireClaims struct {
	Session string `json:"sid"`
	jwt.RegisteredClaims
}

// NewTokens returns a Tokens. It refuses missing and short secrets, and a secret used for both kinds.
func NewTokens(cfg TokensConfig) (*Tokens, error) {
	t := &Tokens{issuer: cfg.Issuer, now: cfg.Now}
	t.issuer = cmp.Or(t.issuer, issuer)
	if t.now == nil {
		t.now = time.Now
	}
	for _, a := range cfg.AccessKeys {
		for _, r := range cfg.RefreshKeys {
			if a == r {
				return nil, errors.New("tokens: access and refresh tokens need different secrets")
			}
		}
	}
	var err error
	if t.access, err = t.kind(accessType, accessFor, cfg.AccessKeys); err != nil {
		return nil, fmt.Errorf("tokens: access secret: %w", err)
	}
	if t.refresh, err = t.kind(refreshType, refreshFor, cfg.RefreshKeys); err != nil {
		return nil, fmt.Errorf("tokens: refresh secret: %w", err)
	}
	return t, nil
}

func (t *Tokens) kind(typ, audience string, secrets []string) (kind, error) {
	k := kind{typ: typ, audience: audience, keys: map[string][]byte{}}
	if len(secrets) == 0 {
		return k, errors.New("there is none")
	}
	for i, s := range secrets {
		if len(s) < keyBytes {
			return k, fmt.Errorf("number %d is shorter than %d bytes", i+1, keyBytes)
		}
		sum := sha256.Sum256(derive([]byte(s), "token key id v1"))
		id := hex.EncodeToString(sum[:4])
		k.keys[id] = []byte(s)
		if i == 0 {
			k.sign = id
		}
	}
	k.parser = jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithIssuer(t.issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithNotBeforeRequired(),
		jwt.WithIssuedAt(), jwt.WithLeeway(leeway), jwt.WithTimeFunc(t.now), jwt.WithStrictDecoding())
	return k, nil
}

// Access returns an access token and when it expires.
func (t *Tokens) Access(account, sessionID string, now time.Time) (token string, expires time.Time) {
	now = now.Truncate(time.Second)
	expires = now.Add(AccessLife)
	return t.access.token(t.issuer, account, sessionID, hex.EncodeToString(random(16)), now, expires), expires
}

// ParseAccess reads an access token. It does not check whether the session is still valid.
func (t *Tokens) ParseAccess(token string) (access.Claims, error) {
	c, err := t.access.parse(token)
	if err != nil {
		return access.Claims{}, err
	}
	return access.Claims{Account: c.Subject, Session: c.Session, TokenID: c.ID, ExpiresAt: c.ExpiresAt.Time}, nil
}

// Refresh returns the refresh token of a session's leaf. The same leaf gives the same token, byte for byte, as
// long as the signing secret does not change.
func (t *Tokens) Refresh(account, sessionID string, leaf session.Leaf) string {
	return t.refresh.token(t.issuer, account, sessionID, leaf.TokenID, leaf.IssuedAt, leaf.ExpiresAt)
}

// ParseRefresh reads a refresh token.
func (t *Tokens) ParseRefresh(token string) (account, sessionID, tokenID string, err error) {
	c, err := t.refresh.parse(token)
	if err != nil {
		return "", "", "", err
	}
	return c.Subject, c.Session, c.ID, nil
}

func (k kind) token(issuer, account, sessionID, id string, at, until time.Time) string {
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, wireClaims{
		Session: sessionID,
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: issuer, Subject: account, Audience: jwt.ClaimStrings{k.audience}, ID: id,
			IssuedAt: jwt.NewNumericDate(at), NotBefore: jwt.NewNumericDate(at), ExpiresAt: jwt.NewNumericDate(until),
		},
	})
	t.Header["typ"], t.Header["kid"] = k.typ, k.sign
	signed, err := t.SignedString(k.keys[k.sign])
	if err != nil {
		panic(fmt.Sprintf("sign a token: %v", err)) // HS256 with a byte slice does not fail
	}
	return signed
}

func (k kind) parse(token string) (*wireClaims, error) {
	// The decoder would skip line ends, but a token must have only one spelling.
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") {
		return nil, ErrToken
	}
	var c wireClaims
	_, err := k.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		key, ok := k.keys[id]
		if typ, _ := t.Header["typ"].(string); !ok || typ != k.typ {
			return nil, ErrToken
		}
		return key, nil
	})
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, ErrTokenExpired
	case err != nil, c.Subject == "", c.Session == "", c.ID == "", c.IssuedAt == nil:
		return nil, ErrToken
	}
	return &c, nil
}
