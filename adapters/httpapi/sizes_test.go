package httpapi

import "testing"

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
		t.Fatalf("%+v", got)
	}
	if large := got.Types[0]; large != (typeView{"t3.large", 2, 8, "Two cores, 8 GB: desktop, browser and agent with room to spare."}) {
		t.Errorf("%+v", large)
	}
	for _, offered := range got.Types {
		f.want(202, call{method: "POST", path: "/api/instances", token: ada.access, body: map[string]string{"instance_type": offered.ID}})
	}
}
