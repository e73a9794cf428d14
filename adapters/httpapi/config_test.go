package httpapi

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// A missing part is reported by the name of its field.
func TestRequiredParts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Accounts", "Instances", "Keys", "Queries", "Progress", "Tokens", "Logger"} {
		cfg := newFront(t, nil).server.cfg
		reflect.ValueOf(&cfg).Elem().FieldByName(name).SetZero()
		if _, err := New(cfg); !errors.Is(err, errMissing) || !strings.Contains(err.Error(), " "+name+": ") {
			t.Errorf("without %s: got %v, want %s: %v", name, err, name, errMissing)
		}
	}
}
