package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

var update = flag.Bool("update", false, "write api/openapi.json from api/openapi.yaml")

// document is read once, because that takes as long as most tests. Tests only read it.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("api/openapi.yaml")
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

func loadDocument(t testing.TB) *openapi3.T {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatalf("api/openapi.yaml: %v", err)
	}
	return doc
}

func TestServedDocumentIsTheSource(t *testing.T) {
	t.Parallel()
	want, err := json.MarshalIndent(loadDocument(t), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("api/openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want, openAPI) {
		t.Error("api/openapi.json is not api/openapi.yaml; run: go test ./adapters/httpapi -run TestServedDocumentIsTheSource -update")
	}
}

var routeParam = regexp.MustCompile(`:(\w+)`)

func TestDocumentAndRoutesAgree(t *testing.T) {
	t.Parallel()
	documented, routed := map[string]bool{}, map[string]bool{}
	for path, item := range loadDocument(t).Paths.Map() {
		for method := range item.Operations() {
			documented[method+" "+path] = true
		}
	}
	for _, r := range newFront(t, nil).server.echo.Routes() {
		if r.Method == http.MethodHead {
			continue // HEAD goes with GET
		}
		routed[r.Method+" "+routeParam.ReplaceAllString(r.Path, "{$1}")] = true
	}
	for _, r := range slices.Sorted(maps.Keys(routed)) {
		if !documented[r] {
			t.Errorf("%s: got a route, want it in the document", r)
		}
	}
	for _, r := range slices.Sorted(maps.Keys(documented)) {
		if !routed[r] {
			t.Errorf("%s: got no route, want the documented one", r)
		}
	}
}

// conformity checks real requests and answers against the document.
type conformity struct {
	router routers.Router
}

var newRouter = sync.OnceValues(func() (routers.Router, error) {
	doc, err := document()
	if err != nil {
		return nil, err
	}
	// Reports and pages have no schema to check.
	for _, kind := range []string{"text/event-stream", "text/html", "text/javascript", "text/css", "image/png"} {
		openapi3filter.RegisterBodyDecoder(kind, openapi3filter.FileBodyDecoder)
	}
	bare := *doc
	bare.Servers = nil // the router takes the server's "/" away from each path, and then finds none
	return legacy.NewRouter(&bare)
})

func newConformity(t testing.TB) *conformity {
	t.Helper()
	router, err := newRouter()
	if err != nil {
		t.Fatal(err)
	}
	return &conformity{router}
}

// check reports deviations of an exchange from the document. It ignores unknown paths.
func (f *conformity) check(t testing.TB, req *http.Request, sent []byte, res *http.Response, got []byte) {
	t.Helper()
	r := req.Clone(context.WithoutCancel(req.Context()))
	r.URL.Path = "/" + strings.Trim(r.URL.Path, "/")
	if r.Method == http.MethodHead {
		return
	}
	route, params, err := f.router.FindRoute(r)
	if err != nil {
		return
	}
	options := &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true,
	}
	r.Body = http.NoBody
	if len(sent) > 0 {
		r.Body = readCloser{bytes.NewReader(sent)}
	}
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options}
	if res.StatusCode < 400 && res.StatusCode != http.StatusNotModified {
		if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
			t.Errorf("%s %s: got an accepted request, want it as documented: %v", r.Method, r.URL.Path, err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: res.StatusCode, Header: res.Header, Options: options}
	out.SetBodyBytes(got)
	if err := openapi3filter.ValidateResponse(r.Context(), out); err != nil {
		t.Errorf("%s %s: got %d, want an answer as documented: %v\n%s", r.Method, r.URL.Path, res.StatusCode, err, got)
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }
