package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"maps"
	"net/http"
	"net/http/httptest"
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

// check reports deviations of an exchange from the document. What the document lacks below /api/ must be refused,
// except for preflights and what machines use.
func (f *conformity) check(t testing.TB, req *http.Request, sent []byte, res *http.Response, got []byte) {
	t.Helper()
	r := req.Clone(context.WithoutCancel(req.Context()))
	r.URL.Path = "/" + strings.Trim(r.URL.Path, "/")
	if r.Method == http.MethodHead {
		return
	}
	route, params, err := f.router.FindRoute(r)
	if err != nil {
		refused := res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusMethodNotAllowed
		if strings.HasPrefix(r.URL.Path, "/api/") && !strings.HasPrefix(r.URL.Path, "/api/guest/") && !refused && r.Method != http.MethodOptions {
			t.Errorf("%s %s: got %d, want 404 or 405 for what the document lacks: %v", r.Method, r.URL.Path, res.StatusCode, err)
		}
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

// failures counts the errors of a test that is expected to fail.
type failures struct {
	testing.TB
	n int
}

func (f *failures) Helper()               {}
func (f *failures) Errorf(string, ...any) { f.n++ }

// TestExchangesAreCompared shows that check finds deviations: requests, answers and paths.
func TestExchangesAreCompared(t *testing.T) {
	t.Parallel()
	c := newConformity(t)
	for _, e := range []struct {
		method, path, sent string
		status             int
		got                string
		deviates           bool
	}{
		{"GET", "/api/auth/me", "", 200, `{"id":"01J00000000000000000000000","email":"ada@example.com","created_at":"2030-01-02T03:04:05Z"}`, false},
		{"GET", "/api/auth/me/", "", 200, `{"id":1}`, true},
		{"POST", "/api/auth/password", `{"surprise":1}`, 204, "", true},
		{"GET", "/api/surprises", "", 200, `{}`, true},
		{"GET", "/api/surprises", "", 403, `{}`, true},
		{"PUT", "/api/auth/me", "", 200, `{}`, true},
		{"GET", "/api/surprises", "", 404, `{}`, false},
		{"PUT", "/api/auth/me", "", 405, `{}`, false},
		{"OPTIONS", "/api/auth/me", "", 204, "", false},
		{"POST", "/api/guest/enroll", "", 200, `{}`, false},
	} {
		req := httptest.NewRequest(e.method, e.path, strings.NewReader(e.sent))
		req.Header.Set("Content-Type", "application/json")
		res := &http.Response{StatusCode: e.status, Header: http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"r"}}}
		f := &failures{TB: t}
		if c.check(f, req, []byte(e.sent), res, []byte(e.got)); f.n > 0 != e.deviates {
			t.Errorf("%s %s %s, %d %s: got %d deviations, want some: %v", e.method, e.path, e.sent, e.status, e.got, f.n, e.deviates)
		}
	}
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }
