package usage_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/usage"
)

const list = `{"source": "a test", "date": "2026-11-01", "disk_gib": 40, "versions": [
	{"from": "2026-01-01", "regions": {"r": {"hourly_micros": {"t": 83200, "dear": 10000000000}, "disk_gib_month_micros": 80000, "address_hourly_micros": 5000}}},
	{"from": "2026-11-15", "regions": {"r": {"hourly_micros": {"t": 166400, "dear": 7}, "disk_gib_month_micros": 90000, "address_hourly_micros": 0}}}]}`

func prices(t testing.TB) *usage.Prices {
	t.Helper()
	p, err := usage.Parse([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// at returns a time in November 2026.
func at(day, hour, minute, second int) time.Time {
	return time.Date(2026, 11, day, hour, minute, second, 0, time.UTC)
}

var (
	november = at(1, 0, 0, 0)
	december = november.AddDate(0, 1, 0)
)

func TestCharge(t *testing.T) {
	t.Parallel()
	run := func(from, to time.Time) usage.Interval {
		i := usage.Interval{Instance: "d", Account: "a", N: 1, Kind: usage.Compute, Region: "r", Type: "t", From: from, To: to, End: usage.ByCloud}
		if to.IsZero() {
			i.End = usage.Open
		}
		return i
	}
	of := func(k usage.Kind, gib int, i usage.Interval) usage.Interval { i.Kind, i.GiB = k, gib; return i }
	typed := func(typ, region string, i usage.Interval) usage.Interval { i.Type, i.Region = typ, region; return i }
	for _, c := range []struct {
		name     string
		interval usage.Interval
		now      time.Time
		rows     int
		seconds  int
		micros   int64
		priced   bool
	}{
		{"an hour", run(at(3, 10, 0, 0), at(3, 11, 0, 0)), december, 1, 3600, 83200, true},
		{"one second counts a minute", run(at(3, 10, 0, 0), at(3, 10, 0, 1)), december, 1, 60, 1386, true},
		{"61 seconds count 61", run(at(3, 10, 0, 0), at(3, 10, 1, 1)), december, 1, 61, 1409, true},
		{"the minute ends in the next day", run(at(3, 23, 59, 50), at(3, 23, 59, 55)), december, 2, 60, 231 + 1155, true},
		{"over midnight", run(at(3, 23, 0, 0), at(4, 2, 0, 0)), december, 2, 3 * 3600, 83200 + 166400, true},
		{"over a change of prices", run(at(14, 23, 0, 0), at(15, 1, 0, 0)), december, 2, 7200, 83200 + 166400, true},
		{"open", run(at(3, 10, 0, 0), time.Time{}), at(3, 11, 0, 0), 1, 3600, 83200, true},
		{"open, and begun in the future", run(at(3, 10, 0, 0), time.Time{}), at(3, 9, 0, 0), 0, 0, 0, true},
		{"begun before", run(november.Add(-time.Hour), at(1, 1, 0, 0)), december, 1, 3600, 83200, true},
		{"not priced", typed("other", "r", run(at(3, 10, 0, 0), at(3, 11, 0, 0))), december, 1, 3600, 0, false},
		{"another region", typed("t", "elsewhere", run(at(3, 10, 0, 0), at(3, 11, 0, 0))), december, 1, 3600, 0, false},
		{"this computer", typed(usage.Local, usage.Local, run(at(3, 10, 0, 0), at(3, 11, 0, 0))), december, 1, 3600, 0, true},
		{"the dearest", typed("dear", "r", run(at(3, 0, 0, 0), at(4, 0, 0, 0))), december, 1, 86400, 240_000_000_000, true},
		{"a disk", of(usage.Disk, 100, run(at(3, 0, 0, 0), at(4, 0, 0, 0))), december, 1, 86400, 100 * 80000 / 30, true},
		{"a disk of unknown size", of(usage.Disk, 0, run(at(3, 0, 0, 0), at(4, 0, 0, 0))), december, 1, 86400, 40 * 80000 / 30, true},
		{"an address has no minimum", of(usage.Address, 0, run(at(3, 10, 0, 0), at(3, 10, 0, 36))), december, 1, 36, 50, true},
	} {
		rows := prices(t).Charge(usage.Usage{Intervals: []usage.Interval{c.interval}}, november, december, c.now)
		var took time.Duration
		priced := true
		for _, r := range rows {
			took += r.Time
			priced = priced && r.Priced
		}
		if len(rows) != c.rows || took != time.Duration(c.seconds)*time.Second || usage.Micros(rows) != c.micros || priced != c.priced {
			t.Errorf("%s: got %d rows, %v, %d micro-dollars, priced %v, want %d, %d s, %d and %v", c.name, len(rows), took, usage.Micros(rows), priced, c.rows, c.seconds, c.micros, c.priced)
		}
	}
}

func TestChargeSumsRunsAndModels(t *testing.T) {
	t.Parallel()
	interval := func(n int, from, to time.Time, end usage.End) usage.Interval {
		return usage.Interval{Instance: "d", Account: "a", N: n, Kind: usage.Compute, Region: "r", Type: "t", From: from, To: to, End: end}
	}
	u := usage.Usage{
		Intervals: []usage.Interval{
			interval(1, at(3, 10, 0, 0), at(3, 10, 0, 1), usage.ByCloud), interval(2, at(3, 10, 0, 5), at(3, 10, 0, 7), usage.Seen),
		},
		Models: []usage.ModelDay{{"d", "a", "t", at(3, 0, 0, 0), 12}, {"d", "a", "t", december, 99}},
	}
	rows := prices(t).Charge(u, november, december, december)
	want := []usage.Row{
		{Instance: "d", Account: "a", Day: at(3, 0, 0, 0), Kind: usage.Compute, Type: "t", Time: 2 * time.Minute, Seen: time.Minute, Micros: 2773, Priced: true},
		{Instance: "d", Account: "a", Day: at(3, 0, 0, 0), Kind: usage.Model, Type: "t", Micros: 12, Priced: true},
	}
	if !slices.Equal(rows, want) {
		t.Errorf("got %+v\nwant %+v", rows, want)
	}
}

// drawUsage draws intervals and model costs of a few desktops.
func drawUsage(t *rapid.T) (u usage.Usage) {
	for n := range rapid.IntRange(0, 12).Draw(t, "intervals") {
		from := november.Add(-48 * time.Hour).Add(time.Duration(rapid.Int64Range(0, int64(34*24*time.Hour)).Draw(t, "from"))).Truncate(time.Microsecond)
		i := usage.Interval{
			Instance: rapid.SampledFrom([]string{"d", "e"}).Draw(t, "desktop"), Account: "a", N: n + 1,
			Kind: rapid.SampledFrom(usage.Kinds[:3]).Draw(t, "kind"), Region: rapid.SampledFrom([]string{"r", "r", "x", usage.Local}).Draw(t, "region"),
			Type: rapid.SampledFrom([]string{"t", "dear", "other"}).Draw(t, "type"), GiB: rapid.IntRange(0, 200).Draw(t, "gib"), From: from,
		}
		if rapid.Bool().Draw(t, "closed") {
			i.To = from.Add(time.Duration(rapid.Int64Range(0, int64(72*time.Hour)).Draw(t, "took"))).Truncate(time.Microsecond)
			i.End = rapid.SampledFrom([]usage.End{usage.ByCloud, usage.Seen}).Draw(t, "end")
		}
		u.Intervals = append(u.Intervals, i)
	}
	for range rapid.IntRange(0, 3).Draw(t, "models") {
		u.Models = append(u.Models, usage.ModelDay{Instance: "d", Account: "a", Day: november.AddDate(0, 0, rapid.IntRange(-1, 30).Draw(t, "day")), Micros: rapid.Int64Range(0, 1e12).Draw(t, "micros")})
	}
	return u
}

func drawTime(t *rapid.T, name string) time.Time {
	return november.Add(time.Duration(rapid.Int64Range(-int64(24*time.Hour), int64(32*24*time.Hour)).Draw(t, name)))
}

// The laws of charges: none is negative, they only grow with time, their order does not matter, and a period that is split
// costs the same, except for a micro-dollar a row.
func TestChargeLaws(t *testing.T) {
	t.Parallel()
	p := prices(t)
	rapid.Check(t, func(t *rapid.T) {
		u, now := drawUsage(t), drawTime(t, "now")
		whole := p.Charge(u, november, december, now)
		for _, r := range whole {
			if r.Micros < 0 || r.Time < 0 || r.Seen < 0 || r.Seen > r.Time {
				t.Fatalf("got %+v, want nothing negative and Seen at most Time", r)
			}
		}
		shuffled := usage.Usage{Intervals: rapid.Permutation(u.Intervals).Draw(t, "order"), Models: u.Models}
		if got := p.Charge(shuffled, november, december, now); !sameButType(got, whole) {
			t.Fatalf("in another order: got %+v\nwant %+v", got, whole)
		}
		next := p.Charge(u, november, december, now.Add(time.Duration(rapid.Int64Range(0, int64(72*time.Hour)).Draw(t, "later"))))
		if usage.Micros(next) < usage.Micros(whole) {
			t.Fatalf("got %d later, want at least %d", usage.Micros(next), usage.Micros(whole))
		}
		at := drawTime(t, "split")
		first, second := p.Charge(u, november, earliest(at, december), now), p.Charge(u, latest(at, november), december, now)
		models := usage.Day(at).Equal(at)
		lost := micros(whole, models) - micros(first, models) - micros(second, models)
		if lost < 0 || lost > int64(len(whole)) {
			t.Fatalf("split at %v: %d micro-dollars were lost of %d rows, want 0 to 1 a row", at, lost, len(whole))
		}
	})
}

// micros sums rows; a day's model costs are not split.
func micros(rows []usage.Row, models bool) (sum int64) {
	for _, r := range rows {
		if models || r.Kind != usage.Model {
			sum += r.Micros
		}
	}
	return sum
}

func sameButType(a, b []usage.Row) bool {
	return slices.EqualFunc(a, b, func(x, y usage.Row) bool { x.Type, y.Type = "", ""; return x == y })
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func TestDefaultPrices(t *testing.T) {
	t.Parallel()
	p, now := usage.Default(), at(28, 0, 0, 0)
	if hourly, ok := p.Hourly("us-east-1", "t3.large", now); hourly != 83200 || !ok {
		t.Errorf("got %d, %v, want 83200", hourly, ok)
	}
	if month, ok := p.DiskMonth("us-east-1", 0, now); month != 3_200_000 || !ok {
		t.Errorf("got %d, %v, want 3200000", month, ok)
	}
	if _, ok := p.Hourly("us-east-1", "t3.large", time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)); ok {
		t.Error("got a price before the first version, want none")
	}
	for _, region := range []string{"eu-central-1", "us-east-1"} {
		for _, typ := range []string{"t3.medium", "t3a.medium", "t3.large", "t3a.large", "t3.xlarge", "t3a.xlarge"} {
			if micros, ok := p.Hourly(region, typ, now); micros <= 0 || !ok {
				t.Errorf("%s %s: got %d, %v, want a price", region, typ, micros, ok)
			}
		}
		if micros, ok := p.AddressHourly(region, now); micros != 5000 || !ok {
			t.Errorf("%s: got %d, %v, want 5000", region, micros, ok)
		}
	}
	if micros, ok := p.Hourly(usage.Local, usage.Local, now); micros != 0 || !ok {
		t.Errorf("got %d, %v, want 0 for this computer", micros, ok)
	}
}

// The highest prices that a list may have, for the largest fleet and the longest month, add up without an overflow.
func TestHighestPrices(t *testing.T) {
	t.Parallel()
	const desktops, month = 10_000, 31 * 24
	highest := func(format string, from int64) (most int64) {
		for most = from; ; most *= 10 {
			text := fmt.Sprintf(`{"source": "a", "date": "2026-11-01", "disk_gib": 1, "versions": [{"from": "2026-01-01", "regions": {"r": `+format+`}}]}`, most*10)
			if _, err := usage.Parse([]byte(text)); err != nil {
				return most
			}
		}
	}
	hourly := highest(`{"hourly_micros": {"t": %d}, "disk_gib_month_micros": 0, "address_hourly_micros": 0}`, 1)
	disk := highest(`{"disk_gib_month_micros": %d, "address_hourly_micros": 0}`, 1)
	p, err := usage.Parse(fmt.Appendf(nil, `{"source": "a", "date": "2026-11-01", "disk_gib": 1, "versions": [{"from": "2026-01-01", "regions": {"r":
		{"hourly_micros": {"t": %d}, "disk_gib_month_micros": %d, "address_hourly_micros": %d}}}]}`, hourly, disk, hourly))
	if err != nil {
		t.Fatal(err)
	}
	from := at(1, 0, 0, 0).AddDate(0, 1, 0) // December
	var u usage.Usage
	for n, kind := range usage.Kinds[:3] {
		u.Intervals = append(u.Intervals, usage.Interval{Instance: "d", Account: "a", N: n + 1, Kind: kind, Region: "r", Type: "t", GiB: 1 << 20, From: from})
	}
	u.Intervals = append(u.Intervals, usage.Interval{Instance: "d", Account: "a", N: 4, Kind: usage.Disk, Region: "r", GiB: 1 << 16, From: from})
	sum := new(big.Int)
	for _, r := range p.Charge(u, from, from.AddDate(0, 1, 0), from.AddDate(0, 1, 0)) {
		if r.Micros < 0 {
			t.Fatalf("got %+v, want no negative charge", r)
		}
		sum.Add(sum, big.NewInt(r.Micros))
	}
	if all := sum.Mul(sum, big.NewInt(desktops)); !all.IsInt64() {
		t.Errorf("got %v micro-dollars for %d desktops in %d hours, want less than an int64 holds", all, desktops, month)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{`"a test"`, `""`, "source"}, {`"2026-11-01"`, `"soon"`, "date"}, {`"disk_gib": 40`, `"disk_gib": 0`, "disk_gib"},
		{`"2026-11-15"`, `"2026-01-01"`, "not after"}, {`"2026-01-01"`, `"2026-01-01T00:00:00Z"`, "versions[0].from"},
		{`83200`, `-1`, "hourly_micros of t"}, {`83200`, `10000000001`, "hourly_micros of t"}, {`83200`, `0.1`, "not a price list"},
		{`"address_hourly_micros": 0`, `"adress": 0`, "adress"}, {`, "address_hourly_micros": 5000`, ``, "address_hourly_micros is missing"},
		{`"disk_gib_month_micros": 80000, `, ``, "disk_gib_month_micros is missing"}, {`80000`, `null`, "disk_gib_month_micros is missing"}, {`]}`, `]} x`, "after its end"},
	} {
		text := list
		if c[0] == `]}` {
			text += " x"
		} else if text = strings.Replace(list, c[0], c[1], 1); text == list {
			t.Fatalf("%q is not in the list", c[0])
		}
		if _, err := usage.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s for %s: got %v, want an error with %q", c[1], c[0], err, c[2])
		}
	}
	if _, err := usage.Load(t.TempDir() + "/none.json"); err == nil {
		t.Error("got no error for a missing file")
	}
}
