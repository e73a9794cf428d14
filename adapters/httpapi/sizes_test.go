package httpapi

import (
	"strings"
	"testing"
)

func TestInstanceTypes(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	var got struct {
		Types        []typeView
		Default      string
		MaxInstances int `json:"max_instances"`
	}
	f.want(200, call{method: "GET", path: "/api/instance-types", token: ada.access}).into(t, &got)
	if len(got.Types) != 2 || got.Default != "t3.large" || got.MaxInstances != 3 {
		t.Fatalf("got %+v, want two types, t3.large by default, at most 3", got)
	}
	if large := got.Types[0]; large != (typeView{"t3.large", 2, 8, "Desktop, browser and agent with room to spare.", true}) {
		t.Errorf("got %+v, want t3.large", large)
	}
	for _, offered := range got.Types {
		f.want(202, call{method: "POST", path: "/api/instances", token: ada.access, body: map[string]string{"instance_type": offered.ID}})
	}
}

func TestBootTimes(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	const none = `{"samples":0,"phases":[],"total":null}`
	const few = `{"samples":2,"phases":[],"total":null}`
	some := `{"samples":9,"phases":[{"phase":"booting","p50_ms":1000,"p95_ms":2000},{"phase":"ready","p50_ms":60000,"p95_ms":90000}],"total":{"p50_ms":60000,"p95_ms":90000}}`
	for query, want := range map[string]string{
		"":                        `{"launch":` + some + `,"start":` + few + `}`,
		"?instance_type=t3.large": `{"launch":` + some + `,"start":` + few + `}`,
		"?instance_type=nothing":  `{"launch":` + none + `,"start":` + none + `}`,
	} {
		if a := f.want(200, call{method: "GET", path: "/api/boot-times" + query, token: ada.access}); strings.TrimSpace(string(a.body)) != want {
			t.Errorf("%s: got %s, want %s", query, a.body, want)
		}
	}
}
