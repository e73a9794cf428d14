package stripe

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
)

// tolerance is how much the time of a signature and our clock may differ.
const tolerance = 5 * time.Minute

// Verify reads a delivery. header is its Stripe-Signature. The error is commands.ErrSignature unless the webhook's secret
// signed exactly this body, at a time that now is at most five minutes away from.
func (c *Client) Verify(body []byte, header string, now time.Time) (commands.Delivery, error) {
	if c.secret == "" || !signed(body, header, c.secret, now) {
		return commands.Delivery{}, commands.ErrSignature
	}
	var event struct {
		ID       string `json:"id"`
		Object   string `json:"object"`
		Type     string `json:"type"`
		Livemode bool   `json:"livemode"`
		Data     struct {
			Object struct {
				ID     string `json:"id"`
				Object string `json:"object"`
			} `json:"object"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &event); err != nil || event.ID == "" || event.Object != "event" {
		return commands.Delivery{}, commands.ErrSignature // Stripe signs nothing else with this secret
	}
	return commands.Delivery{ID: event.ID, Type: event.Type, Object: event.Data.Object.Object, ObjectID: event.Data.Object.ID, Livemode: event.Livemode}, nil
}

// signed reports whether one of the header's signatures is right. While a secret is replaced there are two.
func signed(body []byte, header, secret string, now time.Time) bool {
	var (
		stamp      string
		signatures [][]byte
	)
	for part := range strings.SplitSeq(header, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch key {
		case "t":
			stamp = value
		case "v1":
			if s, err := hex.DecodeString(value); err == nil {
				signatures = append(signatures, s)
			}
		}
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	want := mac.Sum(nil)
	right := false
	for _, s := range signatures {
		right = hmac.Equal(s, want) || right
	}
	return right
}
