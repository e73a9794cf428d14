package ec2test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	actRun       = "RunInstances"
	actStart     = "StartInstances"
	actStop      = "StopInstances"
	actTerminate = "TerminateInstances"
	actDescribe  = "DescribeInstances"

	version = "2016-11-15"
	space   = "http://ec2.amazonaws.com/doc/" + version + "/"
)

// refusal is an error answer.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func refuse(code, format string, args ...any) *refusal {
	return &refusal{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

// outcome is the answer to a call. The transport applies cut and hang.
type outcome struct {
	status    int
	body      []byte
	cut, hang bool
	took      time.Duration
}

// ServeHTTP implements EC2's Query protocol.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	out := s.serve(r.Header, body)
	if retry.Sleep(r.Context(), out.took) != nil || out.hang {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	if out.cut {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.Header().Set("Date", s.date())
	w.WriteHeader(out.status)
	_, _ = w.Write(out.body)
}

// Transport reaches the server without a network and takes only the plan's time: for tests on synctest's clock.
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ s *Server }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	out := t.s.serve(r.Header, body)
	if retry.Sleep(r.Context(), out.took) != nil {
		return nil, r.Context().Err()
	}
	switch {
	case out.hang:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case out.cut:
		return nil, errors.New(cutByNetwork)
	}
	return &http.Response{
		Status: http.StatusText(out.status), StatusCode: out.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"text/xml;charset=UTF-8"}, "Date": {t.s.date()}}, Body: io.NopCloser(bytes.NewReader(out.body)),
		ContentLength: int64(len(out.body)), Request: r,
	}, nil
}

// serve decides a call. Its effect has taken place when serve returns; the answer travels afterwards.
func (s *Server) serve(header http.Header, body []byte) outcome {
	form, err := url.ParseQuery(string(body))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	action := form.Get("Action")
	s.calls[action]++
	switch {
	case err != nil:
		return answer(nil, refuse("MalformedQueryString", "%v", err))
	case !signed(header) || !s.timely(header):
		return answer(nil, &refusal{http.StatusUnauthorized, "AuthFailure", "AWS was not able to validate the provided access credentials"})
	case form.Get("Version") != version:
		return answer(nil, refuse("NoSuchVersion", "The requested version (%s) of service AmazonEC2 does not exist", form.Get("Version")))
	case harmless(action, params(form)):
		return s.tryOut(action, params(form))
	case limits[action] == [2]float64{}:
		return answer(nil, refuse("InvalidAction", "The action %s is not valid for this web service.", action))
	case s.plan.Limits && !s.within(action):
		s.faults["limit"]++
		return answer(nil, &refusal{http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded."})
	}
	f := s.fate(action, s.tokens[form.Get("ClientToken")] == nil)
	run := func() (any, error) { return s.act(action, params(form)) }
	var reply any
	if f.Late > 0 {
		s.late = append(s.late, late{time.Now().Add(f.Late), func() { _, _ = run() }})
	}
	bad := f.Code != "" || f.Cut || f.Hang || f.Idle
	switch {
	case !bad || f.Effect:
		reply, err = run()
	case f.Idle:
		reply, err = s.idle(action, params(form))
	}
	out := answer(reply, err)
	if f.Code != "" {
		status := f.Status
		if status == 0 {
			status = http.StatusBadRequest
		}
		out = answer(nil, &refusal{status, f.Code, "as planned"})
	}
	out.cut, out.hang, out.took = f.Cut, f.Hang, f.Took
	return out
}

// signed reports whether the request has a signature. This server cannot check the signature.
func signed(h http.Header) bool {
	auth := h.Get("Authorization")
	return strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=") && strings.Contains(auth, "/ec2/aws4_request") &&
		strings.Contains(auth, "SignedHeaders=") && strings.Contains(auth, "Signature=") && h.Get("X-Amz-Date") != ""
}

// maxSkew is how much a caller's clock may be off.
const maxSkew = 5 * time.Minute

// timely reports whether the request was signed at about the cloud's time.
func (s *Server) timely(h http.Header) bool {
	at, err := time.Parse("20060102T150405Z", h.Get("X-Amz-Date"))
	return err == nil && s.now().Sub(at).Abs() <= maxSkew
}

// date returns the time that an answer states.
func (s *Server) date() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().UTC().Format(http.TimeFormat)
}

// now returns the time of the cloud's clock.
func (s *Server) now() time.Time { return time.Now().Add(s.ahead) }

func answer(reply any, err error) outcome {
	var no *refusal
	if errors.As(err, &no) {
		reply = xmlErrors{Errors: []xmlError{{no.code, no.message}}, RequestID: "ec2test"}
		text, _ := xml.Marshal(reply)
		return outcome{status: no.status, body: text}
	}
	text, err := xml.Marshal(reply)
	if err != nil {
		return outcome{status: http.StatusInternalServerError, body: []byte(err.Error())}
	}
	return outcome{status: http.StatusOK, body: text}
}
