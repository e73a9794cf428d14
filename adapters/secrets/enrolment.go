package secrets

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudbot-ai/control-plane/domain"
)

// ErrEnrolmentToken refuses a text that is no enrolment token.
var ErrEnrolmentToken = &domain.Error{Kind: domain.Unauthenticated, Code: "enrolment_token_invalid", Msg: "This enrolment token is not valid."}

// Enrolment makes the tokens with which machines enrol. A token is derived, never stored: a launch attempt
// has the same token as long as its key is in the ring. The instance's decider, not the token, makes it
// valid once and for half an hour.
type Enrolment struct{ keys *Keyring }

// NewEnrolment returns an Enrolment.
func NewEnrolment(keys *Keyring) *Enrolment { return &Enrolment{keys} }

const maxEnrolmentToken = 256

// CurrentKey returns the id of the key that new tokens are derived with.
func (e *Enrolment) CurrentKey() string { return e.keys.Current() }

// Token derives the token of a launch attempt: "<instance>.<attempt>.<43 characters>".
func (e *Enrolment) Token(instanceID string, attempt int, keyID string) (string, error) {
	key := e.keys.find(keyID)
	if key == nil {
		return "", fmt.Errorf("enrolment token of %s: key %s is not in ENCRYPTION_KEY", instanceID, keyID)
	}
	if !plainID(instanceID) || attempt < 1 {
		return "", errors.New("enrolment token: not a launch attempt of an instance")
	}
	number := strconv.Itoa(attempt)
	mac := hmac.New(sha256.New, key.enrol)
	mac.Write(parts(instanceID, number))
	return instanceID + "." + number + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), nil
}

// Parse returns the attempt that a token claims to belong to, so that the caller can look up the key it was
// derived with. Parse proves nothing; Verify does.
func (e *Enrolment) Parse(token string) (instanceID string, attempt int, err error) {
	if len(token) > maxEnrolmentToken {
		return "", 0, ErrEnrolmentToken
	}
	fields := strings.Split(token, ".")
	if len(fields) != 3 || !plainID(fields[0]) || len(fields[2]) != 43 {
		return "", 0, ErrEnrolmentToken
	}
	attempt, err = strconv.Atoi(fields[1])
	if err != nil || attempt < 1 || strconv.Itoa(attempt) != fields[1] {
		return "", 0, ErrEnrolmentToken
	}
	return fields[0], attempt, nil
}

// Verify reports whether a token was derived with the key of this id.
func (e *Enrolment) Verify(token, keyID string) bool {
	instanceID, attempt, err := e.Parse(token)
	if err != nil {
		return false
	}
	want, err := e.Token(instanceID, attempt, keyID)
	return err == nil && hmac.Equal([]byte(token), []byte(want))
}

func plainID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, r := range s {
		if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return true
}
