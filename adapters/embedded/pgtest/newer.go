package pgtest

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
)

// production is the oldest PostgreSQL that production accepts.
const production = 16

// Newer returns the folder of the programs of a PostgreSQL that production accepts: an installed one, or the one
// that deploy/prerequisites.sh test installs beside it.
var Newer = sync.OnceValues(func() (string, error) {
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	places := append(installed, "/var/cache/cloudbot/postgres/bin")
	for dir, err := os.Getwd(); err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		places = append(places, filepath.Join(dir, ".cache", "postgres", "bin"))
	}
	newest := slices.MaxFunc(places, func(a, b string) int { return cmp.Compare(major(a), major(b)) })
	if major(newest) < production {
		return "", fmt.Errorf("no PostgreSQL %d or newer: run deploy/prerequisites.sh test", production)
	}
	return newest, nil
})

// major returns the version of the programs in a folder; 0: there are none.
func major(dir string) int {
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 3 {
		return 0
	}
	number, _, _ := strings.Cut(fields[2], ".")
	n, _ := strconv.Atoi(number)
	return n
}

// New16 returns the URL of an empty database on a PostgreSQL that production accepts. The server belongs to the test
// and ends with it.
func New16(t testing.TB) string {
	t.Helper()
	bin, err := Newer()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "cloudbot-pgtest-")
	if err == nil {
		err = os.Chmod(dir, 0o711) // the server's user must pass through
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: filepath.Join(dir, "pg"), BinDir: bin, Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p.URL()
}
