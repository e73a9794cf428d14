package postgres_test

import (
	"bytes"
	"testing"

	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

// Names that end in an ULID are sorted by its time, whatever precedes it.
func TestIndexKey(t *testing.T) {
	t.Parallel()
	names := []string{
		"zebra/01J8Z3K4M5N6P7Q8R9S0T1V2W3",
		"ant/01J8Z3K4M6N6P7Q8R9S0T1V2W3",
		"01J8Z3K4M7ZZZZZZZZZZZZZZZZ/01J8Z3K4M7N6P7Q8R9S0T1V2W3",
	}
	for i := range names[1:] {
		a, b := postgres.IndexKey(names[i]), postgres.IndexKey(names[i+1])
		if bytes.Compare(a[:], b[:]) >= 0 {
			t.Errorf("got key %x of %s not below %x of %s, want the older name first", a, names[i], b, names[i+1])
		}
	}
	seen := map[[16]byte]string{}
	for _, name := range append(names, "a/b", "b/b", "claim/x", "ant/01J8Z3K4M5N6P7Q8R9S0T1V2W3", "ant/01j8z3k4m5n6p7q8r9s0t1v2w3", "ant/U1J8Z3K4M5N6P7Q8R9S0T1V2W3") {
		k := postgres.IndexKey(name)
		if other, ok := seen[k]; ok {
			t.Errorf("got one key for %s and %s, want two", name, other)
		}
		seen[k] = name
	}
}
