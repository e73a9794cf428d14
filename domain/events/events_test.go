package events

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Decode decodes every golden file of every aggregate, so no aggregate is missing.
func TestDecodesAllThatTheLogHolds(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../*/testdata/*.json")
	if err != nil || len(files) < 43 {
		t.Fatalf("got %d golden files, %v, want at least 43", len(files), err)
	}
	named := map[string]bool{}
	for _, f := range files {
		var g struct {
			Name   string
			Schema int
			Data   json.RawMessage
		}
		text, err := os.ReadFile(f)
		if err != nil || json.Unmarshal(text, &g) != nil {
			t.Fatalf("%s: got %v, %s, want JSON", f, err, text)
		}
		aggregate, _, _ := strings.Cut(g.Name, ".")
		if e, err := Decode(aggregate, g.Name, g.Schema, g.Data); err != nil || e == nil {
			t.Errorf("%s: got %v, %v, want an event", f, e, err)
		}
		if _, err := Decode("other", g.Name, g.Schema, g.Data); err == nil {
			t.Errorf("%s: got no error for an unknown aggregate, want one", f)
		}
		named[g.Name] = true
	}
	for _, c := range All() {
		for _, name := range c.Names() {
			if !named[name] {
				t.Errorf("%s: got no golden file, want one", name)
			}
			if !strings.HasPrefix(name, c.Aggregate()+".") {
				t.Errorf("got event %s of aggregate %s, want the same prefix", name, c.Aggregate())
			}
		}
	}
}
