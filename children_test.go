package controlplane_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestChildrenGetAnEnvironmentByName checks that the server gives each program it starts an environment. A command
// without one inherits the server's environment, with its secrets.
func TestChildrenGetAnEnvironmentByName(t *testing.T) {
	t.Parallel()
	found := 0
	for file := range goFiles(t, ".") {
		dir := filepath.ToSlash(filepath.Dir(file))
		if strings.HasSuffix(file, "_test.go") || !under(dir, "cmd/cloudbot", "adapters", "commands", "projections", "eventstore", "migrations") || under(dir, "adapters/ec2/ec2test", "adapters/embedded/pgtest") { // what only tests run
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			starts, given := 0, 0
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					if s, ok := n.Fun.(*ast.SelectorExpr); ok {
						x, _ := s.X.(*ast.Ident)
						if x != nil && (x.Name == "exec" && strings.HasPrefix(s.Sel.Name, "Command") || s.Sel.Name == "StartProcess" || s.Sel.Name == "ForkExec") {
							starts++
						}
					}
				case *ast.AssignStmt:
					for i, l := range n.Lhs {
						if s, ok := l.(*ast.SelectorExpr); ok && s.Sel.Name == "Env" && i < len(n.Rhs) && !mentions(n.Rhs[i], "Environ") {
							given++
						}
					}
				}
				return true
			})
			found += starts
			if starts > 0 && given == 0 {
				t.Errorf("%s: %s starts a program with the server's own environment", file, f.Name.Name)
			}
		}
	}
	if found < 3 {
		t.Errorf("got %d starts of programs, want at least 3", found)
	}
}

// mentions reports whether an expression uses a selector such as os.Environ.
func mentions(e ast.Expr, name string) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == name {
			found = true
		}
		return !found
	})
	return found
}
