package stripetest

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// object is one of Stripe's objects as JSON.
type object = map[string]any

// refusal is an error answer.
type refusal struct {
	status                     int
	kind, code, param, message string
}

func (r *refusal) Error() string { return r.message }

func (r *refusal) object() object {
	e := object{"type": r.kind, "message": r.message}
	if r.code != "" {
		e["code"] = r.code
		e["doc_url"] = "https://stripe.com/docs/error-codes/" + strings.ReplaceAll(r.code, "_", "-")
	}
	if r.param != "" {
		e["param"] = r.param
	}
	return object{"error": e}
}

func invalid(code, param, message string) *refusal {
	return &refusal{http.StatusBadRequest, "invalid_request_error", code, param, message}
}

// missing refuses an id in a path that belongs to no object.
func missing(kind, id string) *refusal {
	return &refusal{http.StatusNotFound, "invalid_request_error", "resource_missing", "id", "No such " + kind + ": '" + id + "'"}
}

// form are a call's parameters. What a call does not take is refused, as Stripe does.
type form struct {
	values url.Values
	taken  []string
	err    error
}

// take returns a parameter; "": it is not there.
func (f *form) take(key string) string {
	f.taken = append(f.taken, key)
	return f.values.Get(key)
}

// need returns a parameter that must be there.
func (f *form) need(key string) string {
	v := f.take(key)
	if v == "" {
		f.fail(invalid("parameter_missing", key, "Missing required param: "+key+"."))
	}
	return v
}

func (f *form) has(key string) bool { return f.values.Has(key) }

// take returns the parameters below a key: metadata[user_id] of metadata.
func (f *form) all(key string) map[string]string {
	found := map[string]string{}
	for k := range f.values {
		if name, ok := strings.CutPrefix(k, key+"["); ok {
			found[strings.TrimSuffix(name, "]")] = f.take(k)
		}
	}
	return found
}

func (f *form) number(key string) int64 {
	text := f.take(key)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		f.fail(invalid("parameter_invalid_integer", key, "Invalid integer: "+text))
	}
	return n
}

func (f *form) time(key string) time.Time {
	n := f.number(key)
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

func (f *form) boolean(key string) bool {
	text := f.take(key)
	if text != "" && text != "true" && text != "false" {
		f.fail(invalid("", key, "Invalid boolean: "+text))
	}
	return text == "true"
}

func (f *form) fail(err *refusal) {
	if f.err == nil {
		f.err = err
	}
}

// done returns the first thing that is wrong with the parameters.
func (f *form) done() error {
	for key := range f.values {
		if !slices.Contains(f.taken, key) {
			f.fail(invalid("parameter_unknown", key, "Received unknown parameter: "+key))
		}
	}
	return f.err
}

// page returns what a list call asks for of all objects, which are the newest first.
func page[T any](f *form, path string, all []T, id func(T) string, show func(T) object) (any, error) {
	limit := 10
	if f.has("limit") {
		limit = int(f.number("limit"))
	}
	after := f.take("starting_after")
	if err := f.done(); err != nil {
		return nil, err
	}
	if limit < 1 || limit > 100 {
		return nil, invalid("", "limit", "Invalid limit: it must be between 1 and 100")
	}
	if after != "" {
		i := slices.IndexFunc(all, func(t T) bool { return id(t) == after })
		if i < 0 {
			return nil, invalid("resource_missing", "starting_after", "No such object: '"+after+"'")
		}
		all = all[i+1:]
	}
	shown := []object{}
	for _, t := range all[:min(limit, len(all))] {
		shown = append(shown, show(t))
	}
	return listOf(path, shown, len(all) > limit), nil
}

func listOf(path string, data []object, more bool) object {
	return object{"object": "list", "data": data, "has_more": more, "url": path}
}

// newest returns those objects that fit, the newest first.
func newest[T any](all []T, fits func(T) bool) []T {
	var found []T
	for _, t := range slices.Backward(all) {
		if fits(t) {
			found = append(found, t)
		}
	}
	return found
}

// unix returns a time as Stripe writes it; null for none.
func unix(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.Unix()
}

// text returns a text as Stripe writes it; null for none.
func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}
