package httpapi

import (
	"strconv"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// A client can tell before a request whether it would be refused, and the refusal has the same numbers.
func TestQuota(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	see := func(what string, held int) {
		t.Helper()
		for _, query := range []string{"", "?limit=1", "?include=terminated"} {
			list := f.want(200, call{method: "GET", path: "/api/instances" + query, token: ada.access})
			if want := `"quota":{"held":` + strconv.Itoa(held) + `,"limit":3}`; !strings.Contains(string(list.body), want) {
				t.Errorf("%s, %q: got %s, want %s", what, query, list.body, want)
			}
		}
	}
	create := call{method: "POST", path: "/api/instances", token: ada.access, body: `{}`}
	see("none", 0)
	last := ""
	for n := range 3 {
		last = f.want(202, create).field(t, "id")
		see("created", n+1)
	}
	const sentence = "You have 3 of 3 desktops. Terminate one to create another."
	if refused := f.want(409, create); refused.field(t, "code") != "quota_exceeded" || refused.field(t, "detail") != sentence {
		t.Errorf("got %s, want quota_exceeded, %q", refused.body, sentence)
	}
	f.happen(last, instance.LaunchAbandoned{Code: "c", Reason: "R."}, instance.Failed{Code: "c", Reason: "R."})
	see("one failed", 2)
	eve := f.signUp("eve@example.com")
	if list := f.want(200, call{method: "GET", path: "/api/instances", token: eve.access}); !strings.Contains(string(list.body), `"held":0`) {
		t.Errorf("another account: got %s, want none of ada's", list.body)
	}
}
