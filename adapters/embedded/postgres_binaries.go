package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoPostgres says that no usable Postgres is installed, and what to do.
var ErrNoPostgres = errors.New("no Postgres 15 or newer found: install it (Debian: apt-get install postgresql) or set DATABASE_URL")

// findBinaries returns the folder of initdb and postgres. If major is not empty, it is the version that created the
// data, and the programs must be of that version; otherwise the newest is used.
func findBinaries(fixed, major string) (string, error) {
	dirs := []string{fixed}
	if fixed == "" {
		dirs = installed()
	}
	var seen []string
	for _, dir := range dirs {
		v := versionOf(dir)
		if v < oldestVersion {
			continue
		}
		if major == "" || major == strconv.Itoa(v) {
			return dir, nil
		}
		seen = append(seen, strconv.Itoa(v))
	}
	if len(seen) > 0 {
		return "", fmt.Errorf("the data was created by Postgres %s, but only %s is installed: install %s, or dump and restore", major, strings.Join(seen, ", "), major)
	}
	return "", ErrNoPostgres
}

// installed lists the candidates: PATH first, then Debian's and Red Hat's versioned folders from new to old.
func installed() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		dirs = append(dirs, filepath.Dir(path))
	}
	versioned, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	other, _ := filepath.Glob("/usr/pgsql-*/bin")
	versioned = append(versioned, other...)
	slices.SortStableFunc(versioned, func(a, b string) int { return versionOf(b) - versionOf(a) })
	return append(dirs, versioned...)
}

// versionOf returns the major version of the programs in dir; 0: one of them is missing.
func versionOf(dir string) int {
	if info, err := os.Stat(filepath.Join(dir, "initdb")); err != nil || info.IsDir() {
		return 0
	}
	// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
	cmd := exec.Command(filepath.Join(dir, "postgres"), "--version")
	cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "LC_ALL=C"} // none of our own environment
	out, err := cmd.Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) < 3 {
		return 0
	}
	var n int
	_, _ = fmt.Sscanf(fields[2], "%d", &n) // stops at "." and at "beta1"
	return n
}
