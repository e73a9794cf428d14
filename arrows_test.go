package controlplane_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the prefix of our own packages.
const module = "github.com/cloudbot-ai/control-plane/"

// room is a folder with what its packages may import. The first room that matches a package counts.
type room struct {
	path    string   // the folder and those below it; with /* any one folder in between
	ours    []string // our packages, with those below them; "." is the package's own folder and those below it
	foreign func(path string) bool
}

func stdlib(string) bool { return false }

func except(prefixes ...string) func(string) bool {
	return func(path string) bool { return !under(path, prefixes...) }
}

func only(prefixes ...string) func(string) bool {
	return func(path string) bool { return under(path, prefixes...) }
}

// What is kept out of the rooms in the middle: the technologies the adapters are for.
const (
	echo = "github.com/labstack"
	aws  = "github.com/aws"
	ec2  = "github.com/aws/aws-sdk-go-v2/service/ec2"
	nats = "github.com/nats-io"
	pgx  = "github.com/jackc"
	paid = "github.com/stripe"
)

// rooms is the table of ARCHITECTURE.md.
var rooms = []room{
	{"domain", []string{"domain"}, stdlib},
	{"internal/retry", nil, stdlib},
	{"internal/problem", []string{"domain"}, stdlib},
	{"internal/access", nil, stdlib},
	{"eventstore/postgres", []string{".", "eventstore", "crash"}, only(pgx, "github.com/oklog/ulid")},
	{"eventstore/memory", []string{".", "eventstore"}, stdlib},
	{"eventstore/eventstoretest", []string{".", "eventstore"}, only("pgregory.net/rapid")},
	{"eventstore/internal", []string{"eventstore"}, stdlib},
	{"eventstore", []string{"eventstore/internal/check"}, stdlib},
	{"commands/machines", []string{"domain"}, stdlib},
	{"commands/provisioner", []string{"domain", "eventstore", "commands", "crash"}, except(echo, aws, nats, pgx, paid)},
	{"commands/keeper", []string{"domain", "eventstore", "commands", "crash"}, except(echo, aws, nats, pgx, paid)},
	{"commands/biller", []string{"domain", "eventstore", "commands", "crash"}, except(echo, aws, nats, pgx, paid)},
	{"commands/commandstest", []string{"domain", "eventstore", "commands"}, except(echo, aws, nats, pgx, paid)},
	{"commands", []string{"domain", "eventstore", "commands/machines", "crash"}, except(echo, aws, nats, pgx, paid)},
	{"projections", []string{"domain", "eventstore", "crash"}, only(pgx)},
	{"migrations", nil, only(pgx)},
	{"adapters/httpapi", []string{".", "crash", "fair", "internal", "domain", "eventstore", "commands", "projections", "migrations", "guest/wire", "web"}, except(aws, paid)},
	{"adapters/ec2/ec2test/cmd", []string{"adapters/ec2", "commands", "domain/instance", "guest/bootstrap"}, except(echo)},
	{"adapters/ec2/ec2test", nil, stdlib}, // it shares no code with what it is compared with
	{"adapters/ec2", []string{".", "crash", "domain", "eventstore", "commands", "projections", "deploy", "guest/wire", "guest/bootstrap"}, except(echo)},
	{"adapters/stripe/stripetest", []string{"."}, stdlib}, // nor does this one
	{"adapters/stripe", []string{".", "domain", "commands"}, only(paid)},
	{"adapters/*", []string{".", "crash", "fair", "internal", "domain", "eventstore", "commands", "projections", "migrations", "deploy", "guest", "web"}, except(echo, ec2, paid)},
	{"guest", []string{"guest"}, except(echo, aws, nats, pgx, paid)},
	{"cmd/cloudbot-guest", []string{".", "guest"}, except(echo, aws, nats, pgx, paid)},
	{"cmd", []string{""}, except(echo, ec2, paid)},
	{"web", nil, stdlib},
	{"crash", nil, stdlib},
	{"fair", nil, stdlib},
	{"deploy", nil, stdlib},
}

// helpers are what a test may import besides what its room may.
var helpers = []string{
	"adapters/embedded/pgtest", "adapters/embedded/natstest", "adapters/stripe", "eventstore/eventstoretest",
	"eventstore/memory", "eventstore/postgres", "domain/domaintest",
	"commands/commandstest", "commands/provisioner", "commands/provisioner/provisionertest", "adapters/stripe/stripetest",
}

var foreignHelpers = []string{"pgregory.net/rapid", "go.uber.org/goleak", "github.com/rogpeppe/go-internal", "golang.org/x/tools"}

// TestArrows keeps the rooms apart: who may import whom is the architecture.
func TestArrows(t *testing.T) {
	t.Parallel()
	checked := 0
	for file, imports := range goFiles(t, ".") {
		dir := filepath.ToSlash(filepath.Dir(file))
		i := slices.IndexFunc(rooms, func(r room) bool { return r.holds(dir) })
		if i < 0 {
			continue // the root, benchmarks and end-to-end tests use everything
		}
		checked++
		test := strings.HasSuffix(file, "_test.go")
		for _, path := range imports {
			if !rooms[i].allows(dir, path, test) {
				t.Errorf("%s imports %s, which %s may not", file, path, rooms[i].path)
			}
		}
	}
	if checked < 40 {
		t.Errorf("only %d files were looked at", checked)
	}
}

// TestArrowsCanFail shows the table refusing what it is there to refuse.
func TestArrowsCanFail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dir, path string
		test      bool
		want      bool
	}{
		{"domain/instance", "time", false, true},
		{"domain/instance", module + "domain", false, true},
		{"domain/instance", module + "eventstore", false, false},
		{"domain/instance", "golang.org/x/text/unicode/norm", false, false},
		{"domain/instance", "pgregory.net/rapid", true, true},
		{"domain/instance", "pgregory.net/rapid", false, false},
		{"eventstore", module + "domain", false, false},
		{"eventstore", module + "eventstore/internal/check", false, true},
		{"eventstore/postgres", pgx + "/pgx/v5", false, true},
		{"eventstore/postgres", module + "commands", false, false},
		{"commands", module + "eventstore/memory", true, true},
		{"commands", module + "projections", false, false},
		{"commands", module + "internal/retry", false, true},
		{"domain/instance", module + "internal/retry", false, false},
		{"guest/agent", module + "internal/retry", false, true},
		{"commands", module + "internal/problem", false, false},
		{"commands", module + "adapters/ec2", false, false},
		{"commands", module + "commands/machines", false, true},
		{"commands", module + "commands/provisioner", false, false},
		{"commands", module + "commands/provisioner/provisionertest", true, true},
		{"commands/machines", module + "eventstore", false, false},
		{"commands/machines", module + "commands", false, false},
		{"commands/provisioner", module + "commands", false, true},
		{"commands/provisioner", module + "adapters/ec2", false, false},
		{"commands/keeper", module + "commands", false, true},
		{"commands/keeper", module + "projections", false, false},
		{"commands", pgx + "/pgx/v5", false, false},
		{"commands", "golang.org/x/sync/errgroup", false, true},
		{"projections", module + "commands", false, false},
		{"projections", pgx + "/pgx/v5", false, true},
		{"projections", module + "adapters/embedded/pgtest", true, true},
		{"projections", module + "adapters/embedded/pgtest", false, false},
		{"adapters/bridge", module + "adapters/tunnel", false, false},
		{"adapters/bridge", module + "adapters/tunnel", true, false},
		{"adapters/bridge", echo + "/echo/v4", false, false},
		{"adapters/tickets", module + "internal/access", false, true},
		{"internal/access", module + "domain", false, false},
		{"internal/problem", module + "domain", false, true},
		{"internal/problem", module + "internal/access", false, false},
		{"adapters/httpapi", echo + "/echo/v4", false, true},
		{"adapters/httpapi", module + "adapters/httpapi/internal/x", false, true},
		{"adapters/s3", ec2, false, false},
		{"adapters/s3", aws + "/aws-sdk-go-v2/service/s3", false, true},
		{"adapters/ec2", ec2, false, true},
		{"adapters/ec2/ec2test", module + "domain/usage", false, false},
		{"adapters/stripe", paid + "/stripe-go/v85", false, true},
		{"adapters/stripe", module + "projections", false, false},
		{"adapters/stripe/stripetest", paid + "/stripe-go/v85", false, false},
		{"adapters/stripe/stripetest", module + "domain/billing", false, false},
		{"adapters/httpapi", paid + "/stripe-go/v85", false, false},
		{"commands", paid + "/stripe-go/v85", false, false},
		{"guest/screen", module + "commands", false, false},
		{"guest/screen", module + "guest/rfb", false, true},
		{"cmd/cloudbot-guest", module + "adapters/tunnel", false, false},
		{"cmd/cloudbot", module + "adapters/ec2", false, true},
		{"cmd/cloudbot", echo + "/echo/v4", false, false},
	} {
		i := slices.IndexFunc(rooms, func(r room) bool { return r.holds(c.dir) })
		if i < 0 {
			t.Errorf("%s is in no room", c.dir)
			continue
		}
		if got := rooms[i].allows(c.dir, c.path, c.test); got != c.want {
			t.Errorf("%s importing %s (test %v): allowed %v", c.dir, c.path, c.test, got)
		}
	}
}

func (r room) holds(dir string) bool {
	parent, any := strings.CutSuffix(r.path, "/*")
	return any && strings.HasPrefix(dir, parent+"/") || !any && under(dir, r.path)
}

func (r room) allows(dir, path string, test bool) bool {
	if path == "C" {
		return false
	}
	ours, isOurs := strings.CutPrefix(path, module)
	switch {
	case isOurs && test && (ours == dir || slices.Contains(helpers, ours)):
		return true
	case ours == "internal/retry" && r.path != "domain":
		return true
	case isOurs:
		return slices.ContainsFunc(r.ours, func(may string) bool {
			if may == "." {
				return under(ours, own(r.path, dir))
			}
			return may == "" || under(ours, may)
		})
	case !strings.Contains(strings.Split(path, "/")[0], "."):
		return true // the standard library
	case test && under(path, foreignHelpers...):
		return true
	}
	return r.foreign(path)
}

// own is the folder of the room's package that dir is in: adapters/bridge of adapters/bridge/x.
func own(path, dir string) string {
	parent, any := strings.CutSuffix(path, "/*")
	if !any {
		return path
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(dir, parent+"/"), "/")
	return parent + "/" + name
}

func under(path string, parents ...string) bool {
	return slices.ContainsFunc(parents, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

// goFiles returns the imports of each Go file below root.
func goFiles(t *testing.T, root string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		found[path] = nil
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[path] = append(found[path], p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
