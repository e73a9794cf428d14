package httpapi

import (
	"encoding/csv"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// at makes the front's clock show a time that never changes by itself.
func (f *front) at(t testing.TB, when time.Time) {
	t.Helper()
	f.clock.fixed.Store(when.UnixNano())
}

// spent has ada's desktops after a month's beginning: one ran from 22:00 to 02:00 and one is not priced.
func (f *front) spent(t *testing.T, name string) (ada user, id, unpriced string) {
	t.Helper()
	f.at(t, time.Date(2026, 11, 1, 22, 0, 0, 0, time.UTC))
	ada = f.signUp("ada@example.com")
	id = f.running(ada, name)
	f.clock.advance(4 * time.Hour)
	ada = f.logIn(ada.email) // an access token lasts an hour
	f.happen(id, instance.ModelCostReported{Meter: "m", Total: 21_000, Added: 21_000, At: f.clock.Now()},
		instance.StopRequested{At: f.clock.Now()}, instance.MachineStopped{Asked: true, RunEnded: instance.RunEnded{Ended: f.clock.Now()}})
	unpriced = f.create(ada, "big")
	f.happen(unpriced, instance.LaunchAttempted{Attempt: 1, At: f.clock.Now(), Spec: instance.Spec{Type: "x9.huge", Region: "test-1"}},
		instance.MachineLaunched{Attempt: 1, Machine: "i-2", At: f.clock.Now()}, instance.MachineRunning{At: f.clock.Now()})
	f.clock.advance(time.Hour)
	ada = f.logIn(ada.email)
	return ada, id, unpriced
}

// The totals, the days and the CSV file are the same sums, and another account sees nothing of them.
func TestUsageOfAMonth(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada, id, unpriced := f.spent(t, `=HYPERLINK("http://x","a")`)
	var v usageView
	f.want(200, call{method: "GET", path: "/api/usage?month=2026-11", token: ada.access}).into(t, &v)
	if v.Month != "2026-11" || v.Source != "a test" || !v.CompleteUntil.Equal(f.clock.Now()) || strings.Join(v.Days, " ") != "2026-11-01 2026-11-02" || len(v.Desktops) != 2 {
		t.Fatalf("got %+v, want November up to now with two desktops", v)
	}
	d := v.Desktops[0]
	// Two hours on each day at 8.32 cents and half a cent; a disk of 40 GiB for two and for three hours.
	disk := func(hours int64) int64 { return 40 * 80_000 * hours / 720 }
	want := []dayUsage{
		{Day: "2026-11-01", RunSeconds: 7200, Compute: 166_400, Address: 10_000, Disk: disk(2)},
		{Day: "2026-11-02", RunSeconds: 7200, Compute: 166_400, Address: 10_000, Disk: disk(3), Model: 21_000},
	}
	if d.ID != id || d.Status != instance.Stopped || d.Type != "t3.large" || !d.Priced || fmt.Sprint(d.Days) != fmt.Sprint(want) || d.RunSeconds != 14_400 || d.Seen != 0 {
		t.Errorf("got %+v, want %+v", d, want)
	}
	if u := v.Desktops[1]; u.ID != unpriced || u.Priced || u.RunSeconds != 3600 || u.Total != disk(1) {
		t.Errorf("got %+v, want an hour without a price and its disk", u)
	}
	sum, kinds := int64(0), int64(0)
	for _, d := range v.Desktops {
		days := int64(0)
		for _, day := range d.Days {
			days += day.total()
		}
		if days != d.Total {
			t.Errorf("%s: got %d on all days, want the total %d", d.ID, days, d.Total)
		}
		sum += d.Total
	}
	for _, micros := range v.ByKind {
		kinds += micros
	}
	if sum != v.Total || kinds != v.Total || v.Estimated != 21_000 {
		t.Errorf("got totals %d by desktop, %d by kind and %d, want them equal", sum, kinds, v.Total)
	}
	if len(v.Excluded) != 3 {
		t.Errorf("got %q, want egress, taxes and the type without a price", v.Excluded)
	}

	a := f.want(200, call{method: "GET", path: "/api/usage.csv?month=2026-11", token: ada.access})
	if got := a.header.Get("Content-Disposition"); got != `attachment; filename="cloudbot-usage-2026-11.csv"` || a.header.Get("Content-Type") != "text/csv; charset=utf-8" {
		t.Errorf("got %s of %s, want the file of the month", got, a.header.Get("Content-Type"))
	}
	rows, err := csv.NewReader(strings.NewReader(string(a.body))).ReadAll()
	if err != nil || len(rows) != 4 {
		t.Fatalf("got %q, %v, want a header and three rows", rows, err)
	}
	total := int64(0)
	for _, row := range rows[1:] {
		micros, err := budget.ParseDollars(row[9])
		if err != nil {
			t.Fatal(err)
		}
		total += micros
		if row[1] == id && row[2] != `'=HYPERLINK("http://x","a")` {
			t.Errorf("got the name %q, want it marked as a text", row[2])
		}
	}
	if total != v.Total {
		t.Errorf("got %d in the file, want %d", total, v.Total)
	}
	if got := strings.Join(rows[1][3:], " "); got != "t3.large 7200 0.166400 0.008888 0.010000 0.000000 0.185288" {
		t.Errorf("got %s, want the first day", got)
	}

	eve := f.signUp("eve@example.com")
	var none usageView
	f.want(200, call{method: "GET", path: "/api/usage", token: eve.access}).into(t, &none)
	if none.Total != 0 || len(none.Desktops) != 0 {
		t.Errorf("another account: got %+v, want nothing", none)
	}
	f.want(200, call{method: "GET", path: "/api/usage?month=2026-10", token: ada.access}).into(t, &none)
	if none.Total != 0 || len(none.Days) != 31 || !none.CompleteUntil.Equal(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("the month before: got %+v, want 31 days without cost", none)
	}
}

func TestCSVText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "Desk": "Desk", "a=b": "a=b", "=1": "'=1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\tx": "'\tx", "\rx": "'\rx", "'=1": "'=1", "ä": "ä",
	} {
		if got := CSVText(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// The cost of a list is read by one query, whatever its length, and the list is answered without it if that fails.
func TestCostOfInstances(t *testing.T) {
	t.Parallel()
	counted := &countingQueries{}
	f := newFront(t, func(c *Config) { counted.Queries = c.Queries; c.Queries = counted })
	f.at(t, time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC))
	ada := f.signUp("ada@example.com")
	a := f.want(202, call{method: "POST", path: "/api/instances", token: ada.access, body: `{}`})
	if !strings.Contains(string(a.body), `"cost":null,"idle":null`) {
		t.Errorf("got %s, want no cost yet", a.body)
	}
	f.caughtUp()
	id := f.running(ada, "x")
	f.clock.advance(2 * time.Hour) // the run began in the month before
	ada = f.logIn(ada.email)
	counted.n, f.used.asked = 0, 0
	var list struct{ Instances []instanceView }
	f.want(200, call{method: "GET", path: "/api/instances", token: ada.access}).into(t, &list)
	if counted.n != 1 || f.used.asked != 1 || len(list.Instances) != 2 {
		t.Errorf("got %d queries of usage and %d of activity, want one each", counted.n, f.used.asked)
	}
	disk := int64(40 * 80_000)
	for _, i := range list.Instances {
		want := costView{Hourly: ref(88_200), DiskMonthly: ref(disk), MonthMicros: ref(0), Priced: true}
		if i.ID == id {
			want.RunSeconds, want.RunMicros, want.MonthMicros = 7200, 2*88_200, ref(88_200+disk/720)
		}
		if got := fmt.Sprint(deref(i.Cost)); got != fmt.Sprint(deref(&want)) {
			t.Errorf("%s: got %s, want %s", i.ID, got, fmt.Sprint(deref(&want)))
		}
	}
	f.clock.advance(time.Second) // an answer is kept in its second
	counted.err = errMachine
	f.used.err = errMachine
	f.want(200, call{method: "GET", path: "/api/instances", token: ada.access}).into(t, &list)
	if list.Instances[0].Cost != nil || list.Instances[0].Idle != nil {
		t.Errorf("got %+v, want instances without costs and idle stops", list.Instances[0])
	}
}

func ref(n int64) *int64 { return &n }

func deref(c *costView) []any {
	list := []any{c.RunSeconds, c.RunMicros, c.Priced}
	for _, p := range []*int64{c.Hourly, c.DiskMonthly, c.MonthMicros} {
		if p == nil {
			list = append(list, nil)
		} else {
			list = append(list, *p)
		}
	}
	return list
}

func TestPrices(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	a := f.want(200, call{method: "GET", path: "/api/prices", token: ada.access})
	want := `{"currency":"USD","source":"a test","date":"2026-11-01","region":"test-1","types":[{"instance_type":"t3.large","hourly_micros":83200},{"instance_type":"t3.xlarge","hourly_micros":null}],"disk_gib_month_micros":80000,"disk_gib":40,"address_hourly_micros":5000,"excluded":[`
	if !strings.HasPrefix(string(a.body), want) {
		t.Errorf("got %s, want %s", a.body, want)
	}
}
