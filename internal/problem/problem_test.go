package problem_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/internal/problem"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	for kind, want := range map[domain.Kind]int{
		domain.Invalid: 422, domain.Unauthenticated: 401, domain.Forbidden: 403, domain.NotFound: 404,
		domain.Conflict: 409, domain.Exhausted: 429, domain.Unavailable: 503, domain.Malformed: 400, domain.PaymentRequired: 402, 0: 500, 99: 500,
	} {
		if got := problem.Status(kind); got != want {
			t.Errorf("kind %d: got %d, want %d", kind, got, want)
		}
	}
}

func write(t *testing.T, method, requestID string, p problem.Problem) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, "/assets/x?secret=1", nil)
	if requestID != "" {
		r.Header.Set(problem.Header, requestID)
	}
	w := httptest.NewRecorder()
	problem.Write(w, r, p)
	return w
}

func TestWrite(t *testing.T) {
	t.Parallel()
	gone := &domain.Error{Kind: domain.NotFound, Code: "not_found", Msg: "There is no such asset.", Field: "name"}
	w := write(t, http.MethodGet, "client-request", problem.Of(gone))
	const want = `{"type":"about:blank","title":"Not Found","status":404,"detail":"There is no such asset.",` +
		`"code":"not_found","request_id":"client-request","instance":"/assets/x","field":"name"}`
	if got := w.Body.String(); got != want {
		t.Errorf("body: got %s, want %s", got, want)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/problem+json", "Cache-Control": "no-store", "X-Request-Id": "client-request", "Retry-After": "",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if w.Code != http.StatusNotFound {
		t.Errorf("status: got %d, want %d", w.Code, http.StatusNotFound)
	}
}

// TestWriteMakesAnID shows that a problem always names its request, and never by an ID that could break a log line.
func TestWriteMakesAnID(t *testing.T) {
	t.Parallel()
	for _, sent := range []string{"", "short", "two words here", strings.Repeat("x", 65), "line\nbreak-line"} {
		w := write(t, http.MethodGet, sent, problem.Problem{Status: 503, Code: "unavailable", Detail: "Try again."})
		var got problem.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if header := w.Header().Get(problem.Header); got.RequestID == "" || got.RequestID == sent || got.RequestID != header {
			t.Errorf("sent %q: got request_id %q and header %q, want one new ID in both", sent, got.RequestID, header)
		}
	}
}

func TestWriteRoundsRetryAfterUp(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]string{0: "", time.Millisecond: "1", time.Second: "1", 1500 * time.Millisecond: "2"} {
		w := write(t, http.MethodHead, "", problem.Problem{Status: 503, Code: "busy", Detail: "Try again.", RetryAfter: after})
		if got := w.Header().Get("Retry-After"); got != want {
			t.Errorf("%v: got Retry-After %q, want %q", after, got, want)
		}
		if w.Body.Len() > 0 {
			t.Errorf("HEAD: got body %q, want none", w.Body)
		}
	}
}

// TestOnlyHere keeps other packages from writing problems of their own.
func TestOnlyHere(t *testing.T) {
	t.Parallel()
	const root, want = "../..", "internal/problem/problem.go"
	var got []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || path != root && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(source), `"application/problem+json"`) {
			rel, _ := filepath.Rel(root, path)
			got = append(got, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []string{want}) {
		t.Errorf("files that write problems: got %q, want only %q", got, want)
	}
}
