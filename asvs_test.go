package controlplane_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// asvsItems is how many items of levels 1 and 2 version 5.0.0 has.
const asvsItems = 253

// Each row of docs/asvs.md names what shows its item. The counts at its top are those of its tables and its list.
func TestASVSNamesWhatExists(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("docs/asvs.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	tables, list, _ := strings.Cut(string(file), "\n## Not applicable\n")
	seen := map[string]bool{}
	once := func(item string) {
		if seen[item] {
			t.Errorf("%s: got it twice, want it once", item)
		}
		seen[item] = true
	}
	shown, notYet := 0, 0
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+\.\d+\.\d+) \| [^|]+ \| ([^|]+) \|$`).FindAllStringSubmatch(tables, -1) {
		item, by := row[1], row[2]
		once(item)
		names := proofs(t, item, by, tests)
		switch {
		case strings.HasPrefix(by, "**not yet**: "):
			notYet++
		case names == 0:
			t.Errorf("%s: got %q, want a test, a file or **not yet**", item, by)
		default:
			shown++
		}
	}
	not := regexp.MustCompile(`\d+\.\d+\.\d+`).FindAllString(list, -1)
	for _, item := range not {
		once(item)
	}
	if rows := strings.Count(tables, "\n| ") - strings.Count(tables, "\n| item |"); rows != shown+notYet {
		t.Errorf("got %d rows that are read, want %d", shown+notYet, rows)
	}
	if want := fmt.Sprintf("Items: %d shown, %d not yet, %d not applicable.", shown, notYet, len(not)); !strings.Contains(tables, want) {
		t.Errorf("got other counts at the top, want %q", want)
	}
	if len(seen) != asvsItems {
		t.Errorf("got %d items, want %d", len(seen), asvsItems)
	}
}

var (
	quoted = regexp.MustCompile("`([^`]+)`(?:: “([^”]+)”)?")
	goTest = regexp.MustCompile(`^Test[A-Z]`)
	aPath  = regexp.MustCompile(`^[A-Za-z][\w.-]*(/[\w.-]+)*\.\w+$|^Makefile$`)
)

// proofs checks what a row names and returns how many tests and files there are: Go tests, files, and tests of the dashboard
// as a file with a title.
func proofs(t *testing.T, item, by string, tests map[string]bool) (n int) {
	t.Helper()
	for _, m := range quoted.FindAllStringSubmatch(by, -1) {
		name, title := m[1], m[2]
		switch {
		case goTest.MatchString(name):
			if n++; !tests[name] {
				t.Errorf("%s: got %s, want the name of a test", item, name)
			}
		case aPath.MatchString(name):
			n++
			code, err := os.ReadFile(name)
			if err != nil || title != "" && !strings.Contains(string(code), `("`+title+`"`) {
				t.Errorf("%s: got %s %q, %v, want a file, with a test of this title", item, name, title, err)
			}
		case title != "" || strings.Contains(name, "/"):
			t.Errorf("%s: got %q, want a test or a file", item, name)
		}
	}
	return n
}
