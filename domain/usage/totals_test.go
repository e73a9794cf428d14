package usage_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/usage"
)

// The totals are the sums of the charges' rows, to the micro-dollar.
func TestTotalsAreTheSumsOfCharges(t *testing.T) {
	t.Parallel()
	p := prices(t)
	rapid.Check(t, func(t *rapid.T) {
		u, from, now := drawUsage(t), drawTime(t, "from"), drawTime(t, "now")
		to := from.Add(time.Duration(rapid.Int64Range(0, int64(40*24*time.Hour)).Draw(t, "length")))
		if rapid.Bool().Draw(t, "a whole month") {
			from, to, now = november, december, december
		}
		// A disk for the month, in which prices change, and runs that share days.
		for n, kind := range []usage.Kind{usage.Disk, usage.Compute, usage.Compute, usage.Address} {
			i := usage.Interval{Instance: "e", N: 20 + n, Kind: kind, Region: "r", Type: "t", From: november.Add(time.Duration(n) * 7777777 * time.Microsecond)}
			if kind == usage.Compute {
				i.To, i.End = i.From.Add(3333333*time.Microsecond*time.Duration(n*n*n)), usage.ByCloud
			}
			u.Intervals = append(u.Intervals, i)
		}
		slices.SortStableFunc(u.Intervals, func(a, b usage.Interval) int { return strings.Compare(a.Instance, b.Instance) })
		want := map[string]int64{}
		for _, row := range p.Charge(u, from, to, now) {
			want[row.Instance] += row.Micros
		}
		got := p.Totals(u, from, to, now)
		for _, sums := range []map[string]int64{got, want} {
			maps.DeleteFunc(sums, func(_ string, micros int64) bool { return micros == 0 })
		}
		if !maps.Equal(got, want) {
			t.Fatalf("got %v, want %v of %+v from %v to %v, now %v", got, want, u, from, to, now)
		}
	})
}
