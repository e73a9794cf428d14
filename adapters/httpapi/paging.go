package httpapi

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
)

const (
	defaultLimit = 50
	maxLimit     = 100
)

func pageLimit(c echo.Context) (int, error) {
	text := c.QueryParam("limit")
	if text == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		return 0, invalid("invalid_limit", fmt.Sprintf("The limit must be a number from 1 to %d.", maxLimit))
	}
	return n, nil
}

// cursor returns an opaque cursor; kind keeps cursors of different lists apart.
func cursor(kind, at string) *string {
	if at == "" {
		return nil
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(kind + ":" + at))
	return &text
}

func pageCursor(c echo.Context, kind string, good func(at string) bool) (string, error) {
	text := c.QueryParam("cursor")
	if text == "" {
		return "", nil
	}
	plain, err := base64.RawURLEncoding.Strict().DecodeString(text)
	at, ours := strings.CutPrefix(string(plain), kind+":")
	if err != nil || !ours || !good(at) {
		return "", invalid("invalid_cursor", "The cursor must be a next_cursor of the same list.")
	}
	return at, nil
}

func isPosition(text string) bool {
	n, err := strconv.ParseInt(text, 10, 64)
	return err == nil && n >= 0
}
