package stripetest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// version is the version of Stripe's API that deliveries have.
const version = "2026-03-25.dahlia"

// request is a call of the API. at is the server's time.
type request struct {
	id   string // of the object in its path
	form *form
	at   time.Time
	base string
}

// routes are the calls of the API. {id} is any one part of the path.
var routes = []struct {
	method, path string
	do           func(*Server, *request) (any, error)
}{
	{"POST", "/v1/checkout/sessions", (*Server).createCheckout},
	{"GET", "/v1/checkout/sessions/{id}", (*Server).getCheckout},
	{"POST", "/v1/checkout/sessions/{id}/expire", (*Server).expireCheckout},
	{"GET", "/v1/customers/{id}", (*Server).getCustomer},
	{"GET", "/v1/prices", (*Server).listPrices},
	{"GET", "/v1/prices/{id}", (*Server).getPrice},
	{"GET", "/v1/subscriptions", (*Server).listSubscriptions},
	{"GET", "/v1/subscriptions/{id}", (*Server).getSubscription},
	{"POST", "/v1/subscriptions/{id}", (*Server).updateSubscription},
	{"GET", "/v1/invoices", (*Server).listInvoices},
	{"GET", "/v1/invoices/{id}", (*Server).getInvoice},
	{"POST", "/v1/billing_portal/sessions", (*Server).createPortal},
	{"GET", "/v1/billing/meters", (*Server).listMeters},
	{"GET", "/v1/billing/meters/{id}", (*Server).getMeter},
	{"GET", "/v1/billing/meters/{id}/event_summaries", (*Server).listSummaries},
	{"POST", "/v1/billing/meter_events", (*Server).createMeterEvent},
	{"GET", "/v1/events/{id}", (*Server).getEvent},
}

// answer is the answer to a call. cut and hang are what happens to it on its way.
type answer struct {
	status    int
	kind      string // its media type; "": JSON
	body      []byte
	header    map[string]string
	cut, hang bool
}

// kept is an outcome that is remembered by its idempotency key.
type kept struct {
	at    time.Time
	what  string // the call with its parameters
	reply answer
}

// ServeHTTP answers the API's calls, the pages' and the test's.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1/"):
	case strings.HasPrefix(r.URL.Path, "/control/"):
		s.control(w, r)
		return
	default:
		s.pages(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return
	}
	a := s.answer(r, body)
	if a.hang {
		<-r.Context().Done()
	}
	if a.cut || a.hang {
		panic(http.ErrAbortHandler)
	}
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	w.Header().Set("Content-Type", cmp.Or(a.kind, "application/json"))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// Transport reaches the API without a network: for tests on synctest's clock.
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
	a := t.s.answer(r, body)
	switch {
	case a.hang:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case a.cut:
		return nil, io.ErrUnexpectedEOF
	}
	header := http.Header{"Content-Type": {cmp.Or(a.kind, "application/json")}}
	for k, v := range a.header {
		header.Set(k, v)
	}
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}, nil
}

// answer decides a call. Its effect has taken place when answer returns; the answer travels afterwards.
func (s *Server) answer(r *http.Request, body []byte) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.seen(r)
	key := r.Header.Get("Idempotency-Key")
	values, err := url.ParseQuery(string(body))
	if r.Method == http.MethodGet {
		values, err = r.URL.Query(), nil
	}
	name, id, do := s.route(r.Method, r.URL.Path)
	s.calls[name]++
	switch {
	case !s.authorized(r):
		given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		return refused(&refusal{http.StatusUnauthorized, "invalid_request_error", "", "", "Invalid API Key provided: " + given[:min(8, len(given))] + "****" + given[max(len(given)-4, 0):]})
	case r.Header.Get("Stripe-Version") != "" && r.Header.Get("Stripe-Version") != version:
		return refused(invalid("", "", "Invalid Stripe API version: "+r.Header.Get("Stripe-Version")))
	case err != nil:
		return refused(invalid("", "", "The request could not be read."))
	case do == nil:
		return refused(&refusal{http.StatusNotFound, "invalid_request_error", "", "", "Unrecognized request URL (" + r.Method + ": " + r.URL.Path + ")."})
	}
	what := r.Method + " " + r.URL.Path + "?" + values.Encode()
	known := s.remembered(key)
	fault := s.fault(r.Method, r.URL.Path, known != nil)
	if fault != "" {
		s.met[fault]++
	}
	if a, stop := before(fault, key); stop {
		return a
	}
	if known != nil {
		a := known.reply
		if known.what != what {
			return refused(&refusal{http.StatusBadRequest, "idempotency_error", "", "", "Keys for idempotent requests can only be used with the same parameters they were " +
				"first used with. Try using a key other than '" + key + "' if you meant to execute a different request."})
		}
		a.header = map[string]string{"Idempotent-Replayed": "true"}
		a.cut, a.hang = fault == Lost, fault == Hang
		return a
	}
	failed := answer{status: http.StatusInternalServerError, body: encode((&refusal{kind: "api_error", message: "An unknown error occurred."}).object())}
	var a answer
	switch fault {
	case Error:
		a = failed
	default:
		if a = reply(do(&request{form: &form{values: values}, at: s.now(), base: s.base(), id: id})); fault == Broken {
			a = failed
		}
	}
	// An outcome is remembered unless the parameters were refused before anything was done.
	if key != "" && r.Method == http.MethodPost && (a.status < 400 || a.status >= 500) {
		s.keys[key] = &kept{s.now(), what, a}
	}
	a.cut, a.hang = fault == Lost, fault == Hang
	return a
}

// remembered returns the outcome of an earlier call with a key.
func (s *Server) remembered(key string) *kept {
	k := s.keys[key]
	if k == nil || s.now().Sub(k.at) >= idempotent {
		delete(s.keys, key)
		return nil
	}
	return k
}

func (s *Server) authorized(r *http.Request) bool {
	if user, _, ok := r.BasicAuth(); ok {
		return user == s.cfg.Key
	}
	return r.Header.Get("Authorization") == "Bearer "+s.cfg.Key
}

// seen remembers where calls come to, for the URLs of pages.
func (s *Server) seen(r *http.Request) {
	if s.cfg.Public == "" && r.Host != "" {
		s.host = r.Host
	}
}

func (s *Server) base() string {
	return cmp.Or(strings.TrimSuffix(s.cfg.Public, "/"), "http://"+cmp.Or(s.host, "stripe.invalid"))
}

// route returns a call's name, the id in its path and what it does; nil: there is no such call.
func (s *Server) route(method, path string) (name, id string, do func(*request) (any, error)) {
	parts := strings.Split(path, "/")
	for _, r := range routes {
		want := strings.Split(r.path, "/")
		if r.method != method || len(want) != len(parts) {
			continue
		}
		fits, id := true, ""
		for i, w := range want {
			if w == "{id}" {
				id = parts[i]
			}
			fits = fits && (w == "{id}" && id != "" || w == parts[i])
		}
		if fits {
			return method + " " + r.path, id, func(q *request) (any, error) { return r.do(s, q) }
		}
	}
	return method + " (unknown)", "", nil
}

func reply(o any, err error) answer {
	var no *refusal
	switch {
	case errors.As(err, &no):
		return refused(no)
	case err != nil:
		return refused(&refusal{http.StatusInternalServerError, "api_error", "", "", err.Error()})
	}
	return answer{status: http.StatusOK, body: encode(o)}
}

func refused(no *refusal) answer { return answer{status: no.status, body: encode(no.object())} }

func encode(o any) []byte {
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		panic(err) // an object has only texts, numbers and lists
	}
	return text
}
