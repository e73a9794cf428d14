package budget

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// For any limits, spending and steps of the clock: deciding again adds nothing; a limit is warned of once for each period and
// threshold, upwards only; it is reached at most once for each period and amount, and only if it is spent; while it is, every
// start is refused; and when what is spent and the limits are compared, no limit that is spent is missed.
func TestLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s State
		at := time.Date(2026, 11, 27, 20, 0, 0, 0, time.UTC)
		spent := map[string]Spent{}
		seen := map[string]bool{} // what may happen once
		scopes := []string{Account, "a", "b"}
		execute := func(c Command) error {
			before := maps.Clone(s)
			events, err := Decide(s, c)
			if !maps.Equal(before, s) {
				t.Fatalf("%+v: got the state changed in place, want it as it was", c)
			}
			for _, e := range events {
				once(t, seen, e)
				s = Evolve(s, e)
			}
			if again, err2 := Decide(s, c); len(again) > 0 || (err == nil) != (err2 == nil) {
				t.Fatalf("%+v again: got %+v, %v, want no events and error %v", c, again, err2, err)
			}
			return err
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			scope := rapid.SampledFrom(scopes).Draw(t, "scope")
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				limits := rapid.SampledFrom([]int64{0, 10, 20, 100})
				_ = execute(SetLimits{scope, limits.Draw(t, "day") * Dollar, limits.Draw(t, "month") * Dollar, spent[scope], at})
			case 1:
				next := at.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour)
				for scope, x := range spent {
					if Day.Of(next) != Day.Of(at) {
						x.Day = 0
					}
					if Month.Of(next) != Month.Of(at) {
						x.Month = 0
					}
					spent[scope] = x
				}
				at = next
			case 2:
				if scope != Account {
					_ = execute(EndScope{scope})
				}
			default:
				n := rapid.Int64Range(0, 9*Dollar).Draw(t, "spent")
				for _, scope := range []string{Account, scope} {
					x := spent[scope]
					spent[scope] = Spent{x.Day + n, x.Month + n}
				}
			}
			if rapid.Bool().Draw(t, "behind") { // the read model has not seen the latest
				stale := maps.Clone(spent)
				x := stale[scope]
				stale[scope] = Spent{x.Day / 2, x.Month / 2}
				_ = execute(Assess{stale, at})
			}
			_ = execute(Assess{spent, at})
			for _, id := range []string{"a", "b"} {
				due := exhausted(s, spent, Account) || exhausted(s, spent, id)
				if err := execute(Admit{id, at}); (err != nil) != due {
					t.Fatalf("admit %s: got %v with %+v spent of %+v, want a refusal: %v", id, err, spent, s, due)
				}
				if (s.Why(id, at) != "") != due {
					t.Fatalf("why %s: got %q, want a reason: %v", id, s.Why(id, at), due)
				}
			}
		}
	})
}

// exhausted reports whether a limit of the scope is spent.
func exhausted(s State, spent map[string]Spent, scope string) bool {
	for _, p := range []Period{Day, Month} {
		if limit := s[scope].Of(p).Micros; limit > 0 && spent[scope].In(p) >= limit {
			return true
		}
	}
	return false
}

// once fails if an event says what an earlier one said. Another amount makes warnings of the scope possible again.
func once(t *rapid.T, seen map[string]bool, e Event) {
	key := func(m Mark, what any) string { return fmt.Sprint(m.Scope, "|", m.Period, "|", m.Of, "|", what) }
	forget := func(scope string, reached bool) {
		maps.DeleteFunc(seen, func(key string, _ bool) bool {
			return strings.HasPrefix(key, scope+"|") && (reached || !strings.HasSuffix(key, "|reached"))
		})
	}
	said := ""
	switch e := e.(type) {
	case LimitsSet:
		forget(e.Scope, false)
		return
	case ScopeEnded:
		forget(e.Scope, true)
		return
	case Released:
		delete(seen, key(Mark{Scope: e.Scope, Period: e.Period, Of: e.Of}, "reached"))
		return
	case Warned:
		said = key(e.Mark, e.Percent)
		if seen[key(e.Mark, 80)] || seen[key(e.Mark, "reached")] {
			t.Fatalf("got %+v after a higher threshold, want them upwards", e)
		}
		if e.Spent*100 < e.Limit*int64(e.Percent) {
			t.Fatalf("got %+v, want a part of the limit that is spent", e)
		}
	case Reached:
		said = key(e.Mark, "reached")
		if e.Spent < e.Limit || e.Limit == 0 {
			t.Fatalf("got %+v, want a limit that is spent", e)
		}
	}
	if seen[said] {
		t.Fatalf("got %+v twice, want it once", e)
	}
	seen[said] = true
}

func TestDollars(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0": "$0.00", "1": "$1.00", "49.95": "$49.95", "0.1": "$0.10", "0.012345": "$0.012345", "0.000001": "$0.000001", "1000000000": "$1000000000.00", "007.5": "$7.50",
	} {
		micros, err := ParseDollars(text)
		if got := Dollars(micros); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "1 ", "0.0000001", "1000000000.000001", "99999999999", "NaN", "1.2.3", "$5", "٣"} {
		if micros, err := ParseDollars(text); err == nil {
			t.Errorf("%q: got %d, want a refusal", text, micros)
		}
	}
	if got := Dollars(-1_500_000); got != "-$1.50" {
		t.Errorf("got %s, want -$1.50", got)
	}
}

// Each amount is read back exactly.
func TestDollarsAreExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		micros := rapid.Int64Range(0, maxDollars*Dollar).Draw(t, "micros")
		if got, err := ParseDollars(Dollars(micros)[1:]); err != nil || got != micros {
			t.Fatalf("%s: got %d, %v, want %d", Dollars(micros), got, err, micros)
		}
	})
}
