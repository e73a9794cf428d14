package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A client that writes and then reads sees what it wrote, without a word about positions.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	c := signUp(t, s.URL, "writer@example.com")
	stale := 0
	for i := range 30 {
		key := fmt.Sprintf("sk-ant-0123456789abcdef%04d", i)
		c.must(http.StatusCreated, "POST", "/api/user/api-keys", fmt.Sprintf(`{"provider":"anthropic","api_key":%q}`, key))
		if list := c.must(http.StatusOK, "GET", "/api/user/api-keys", ""); !strings.Contains(string(list.body), fmt.Sprintf(`"%04d"`, i)) {
			stale++
		}
	}
	if stale > 0 {
		t.Errorf("%d of 30 lists were stale", stale)
	}
}
