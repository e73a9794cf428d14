package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/internal/problem"
)

// speakingProblems turns another handler's refusals into problem documents: its router and its libraries answer
// an unknown path, a wrong method or a bad upgrade in plain text.
func speakingProblems(h http.Handler) echo.HandlerFunc {
	return func(c echo.Context) error {
		w := &refusing{ResponseWriter: c.Response()}
		h.ServeHTTP(w, c.Request())
		if w.status == 0 {
			return nil
		}
		return w.refusal()
	}
}

// maxRefusal bounds the body of a refusal that is kept, in bytes.
const maxRefusal = 4 << 10

// refusing holds back a refusal and forwards every other answer.
type refusing struct {
	http.ResponseWriter
	status int // of a refusal; 0: none
	body   bytes.Buffer
}

func (w *refusing) WriteHeader(status int) {
	if status >= 400 {
		w.status = status
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *refusing) Write(p []byte) (int, error) {
	if w.status == 0 {
		return w.ResponseWriter.Write(p)
	}
	w.body.Write(p[:min(len(p), maxRefusal-w.body.Len())])
	return len(p), nil
}

// Unwrap lets a WebSocket reach its connection.
func (w *refusing) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// refusal returns the handler's own problem document, or else the one of its status.
func (w *refusing) refusal() *refusal {
	said := problem.Problem{Code: "refused", Detail: "This request is not valid here; see GET /docs."}
	switch own := json.Unmarshal(w.body.Bytes(), &said) == nil; {
	case own:
	case w.status == http.StatusNotFound:
		return errNoRoute
	case w.status == http.StatusMethodNotAllowed:
		return errMethod
	case w.status == http.StatusUpgradeRequired:
		return errUpgrade
	}
	// The handler itself logs how often it was full.
	return &refusal{status: w.status, code: said.Code, detail: said.Detail, expected: w.status == http.StatusServiceUnavailable}
}
