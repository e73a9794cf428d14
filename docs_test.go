package controlplane_test

import (
	"os"
	"regexp"
	"testing"
)

// Each claim of docs/security.md names the tests that show it.
func TestSecurityNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	there := testNames(t)
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllSubmatch(text, -1)
	for _, m := range named {
		if !there[string(m[1])] {
			t.Errorf("got %s, want the name of a test", m[1])
		}
	}
	if len(named) < 20 {
		t.Errorf("got %d names, want at least 20", len(named))
	}
}

// testNames returns the names of all tests in Go.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	for file := range goFiles(t, ".") {
		code, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`).FindAllSubmatch(code, -1) {
			there[string(m[1])] = true
		}
	}
	return there
}
