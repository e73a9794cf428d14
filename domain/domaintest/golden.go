package domaintest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

var update = flag.Bool("update", false, "write the golden files that are missing; those that exist never change")

// codec is an aggregate's table under test.
type codec[E any] struct{ domain.Codec[E] }

type golden struct {
	Name   string          `json:"name"`
	Schema int             `json:"schema"`
	Data   json.RawMessage `json:"data"`
}

// Golden checks the codec against the files in testdata, which are events that existing logs contain. Every file must
// always decode, and encode to the same bytes. samples has one event of every type of the package, with all fields
// filled. A sample without a file fails, and so does a type without a sample.
func Golden[E any](t *testing.T, table domain.Codec[E], samples ...E) {
	t.Helper()
	c := codec[E]{table}
	sampled := map[string]bool{}
	for _, e := range samples {
		sampled[reflect.TypeOf(e).Name()] = true
		filled(t, reflect.ValueOf(e))
		c.sample(t, e)
	}
	for _, typ := range eventTypes(t) {
		if !sampled[typ] {
			t.Errorf("got no sample of event %s, want one for its golden file", typ)
		}
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("got golden files %v, %v, want some", files, err)
	}
	for _, f := range files {
		c.file(t, f)
	}
	c.strangers(t)
}

// file decodes a golden file and encodes it again.
func (c codec[E]) file(t *testing.T, path string) {
	t.Helper()
	g := read(t, path)
	if base := filepath.Base(path); !strings.HasPrefix(base, g.Name+".") {
		t.Errorf("%s: got event %s, want the file named after it", path, g.Name)
	}
	e, err := c.Decode(g.Name, g.Schema, g.Data)
	if err != nil {
		t.Errorf("%s: got %v, want no error", path, err)
		return
	}
	name, schema, data, err := c.Encode(e)
	if err != nil || name != g.Name || schema != g.Schema || !bytes.Equal(data, g.Data) {
		t.Errorf("%s: got %s %d %s, %v, want %s %d %s", path, name, schema, data, err, g.Name, g.Schema, g.Data)
	}
}

// sample looks for the file that contains e, and writes it with -update.
func (c codec[E]) sample(t *testing.T, e E) {
	t.Helper()
	name, schema, data, err := c.Encode(e)
	if err != nil {
		t.Errorf("encode %T: got %v, want no error", e, err)
		return
	}
	back, err := c.Decode(name, schema, data)
	if err != nil || !reflect.DeepEqual(back, e) {
		t.Errorf("%s: got %+v, %v decoded, want %+v", name, back, err, e)
	}
	path := filepath.Join("testdata", name+".json")
	for n := 2; ; n++ {
		if _, err := os.Stat(path); err != nil {
			break
		}
		if bytes.Equal(read(t, path).Data, data) {
			return
		}
		path = filepath.Join("testdata", fmt.Sprintf("%s.%d.json", name, n))
	}
	if !*update {
		t.Errorf("got no golden file that shows %s as %s, want one; run with -update, and keep the old files", name, data)
		return
	}
	text := fmt.Sprintf("{\n  \"name\": %q,\n  \"schema\": %d,\n  \"data\": %s\n}\n", name, schema, data)
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// strangers checks that unknown events are errors: nothing is skipped silently.
func (c codec[E]) strangers(t *testing.T) {
	t.Helper()
	var none E
	if _, _, _, err := c.Encode(none); err == nil {
		t.Errorf("encode no event: got no error, want one")
	}
	files, _ := filepath.Glob("testdata/*.json")
	for _, f := range files {
		g := read(t, f)
		if _, err := c.Decode(g.Name, g.Schema+1000, g.Data); err == nil {
			t.Errorf("decode %s of a schema from the future: got no error, want one", g.Name)
		}
		if _, err := c.Decode(g.Name, g.Schema, []byte(`[`)); err == nil {
			t.Errorf("decode %s from broken data: got no error, want one", g.Name)
		}
		if _, err := c.Decode(g.Name+"x", g.Schema, g.Data); err == nil {
			t.Errorf("decode %sx: got no error, want one", g.Name)
		}
	}
}

func read(t *testing.T, path string) (g golden) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if err != nil {
		t.Fatalf("%s: got %v, want no error", path, err)
	}
	return g
}

// eventTypes returns the types of the package in the working directory that have the method event.
func eventTypes(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || fn.Name.Name != "event" {
				continue
			}
			names = append(names, fn.Recv.List[0].Type.(*ast.Ident).Name)
		}
	}
	if len(names) == 0 {
		t.Fatalf("got no events in the package, want some")
	}
	return names
}

// filled checks that every field is set, so that the golden file contains it.
func filled(t *testing.T, v reflect.Value) {
	t.Helper()
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case f.IsZero():
			t.Errorf("got a sample of %s with an empty %s, want it filled", v.Type(), v.Type().Field(i).Name)
		case f.Kind() == reflect.Struct && f.Type() != reflect.TypeFor[time.Time]():
			filled(t, f)
		}
	}
}
