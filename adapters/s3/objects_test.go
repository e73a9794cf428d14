package s3

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"sync/atomic"
	"testing"
)

// Objects are stored and read whole. A failed try is repeated with the whole content, and a 403 is not a missing object.
func TestObjects(t *testing.T) {
	t.Parallel()
	var failures atomic.Int32
	var forbid atomic.Bool
	b, _ := guarded(t, func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case forbid.Load():
			w.WriteHeader(http.StatusForbidden)
			return true
		case r.Method == http.MethodPut && failures.Add(1) == 1:
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	o := Objects{b}
	want := bytes.Repeat([]byte("0123456789"), 100_000)
	if err := o.Put(t.Context(), "part", want); err != nil {
		t.Fatal(err)
	}
	r, err := o.Get(t.Context(), "part")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v, want the %d that were put", len(got), err, len(want))
	}
	if _, err := o.Get(t.Context(), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing object: got %v, want %v", err, fs.ErrNotExist)
	}
	forbid.Store(true)
	if _, err := o.Get(t.Context(), "none"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a forbidden object: got %v, want another error than %v", err, fs.ErrNotExist)
	}
}
