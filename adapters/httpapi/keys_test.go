package httpapi

import (
	"strings"
	"testing"
)

func TestKeyLife(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	path := "/api/user/api-keys/"
	f.want(404, call{method: "PUT", path: path + "openai", token: ada.access, body: `{"api_key":"` + canary + `"}`})
	a := f.want(201, call{method: "POST", path: path, token: ada.access, body: `{"provider":"openai","api_key":"` + canary + `"}`})
	if a.field(t, "last4") != "cdef" || strings.Contains(string(a.body), canary) {
		t.Errorf("got %s, want last4 cdef and no key", a.body)
	}
	f.want(200, call{method: "PUT", path: path + "openai", token: ada.access, body: `{"api_key":"sk-other-9999"}`})
	f.caughtUp()
	var list struct {
		Providers []string
		Keys      []map[string]string
		Available []providerView
	}
	f.want(200, call{method: "GET", path: path, token: ada.access}).into(t, &list)
	if len(list.Providers) != 1 || list.Providers[0] != "openai" || list.Keys[0]["last4"] != "9999" || len(list.Available) != 9 {
		t.Errorf("got %+v, want openai 9999 and 9 providers", list)
	}
	f.want(204, call{method: "DELETE", path: path + "openai/", token: ada.access})
	f.want(404, call{method: "DELETE", path: path + "openai", token: ada.access})
	f.want(404, call{method: "DELETE", path: path + "unknown", token: ada.access})
}
