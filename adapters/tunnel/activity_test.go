package tunnel

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

type used struct {
	account, instance string
	connected         time.Time
	wire.Activity
}

// uses keeps all reports.
type uses chan used

func (u uses) Report(account, instance string, connected time.Time, a wire.Activity) {
	u <- used{account, instance, connected, a}
}

func ms(v int64) *int64 { return &v }

// What a guest reports reaches the port, with the tunnel's time of connection.
func TestUseIsPassedOn(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	got := make(uses, 10)
	r.hub.c.Uses = got
	next := func(what string) used {
		t.Helper()
		select {
		case u := <-got:
			return u
		case <-time.After(time.Minute):
			t.Fatalf("%s: got no report, want one", what)
			return used{}
		}
	}
	before := time.Now()
	g := mustDial(t, r.url, "b", m.private)
	g.say(wire.Message{Activity: &wire.Activity{Input: ms(1200), Blind: true, NextJob: ms(3_600_000)}})
	first := next("a report")
	if first.account != "account" || first.instance != id || first.Input == nil || *first.Input < 1200 || !first.Blind || first.Chat != nil {
		t.Errorf("got %+v, want input 1.2 s ago, blind, of account and instance", first)
	}
	if first.NextJob == nil || *first.NextJob > 3_600_000 || *first.NextJob < 3_500_000 {
		t.Errorf("next job: got %v, want in at most an hour", first.NextJob)
	}
	if first.connected.Before(before) || first.connected.After(time.Now()) {
		t.Errorf("connected: got %v, want a time since %v", first.connected, before)
	}
	g.say(wire.Message{Activity: &wire.Activity{Chat: ms(0)}})
	second := next("another report")
	if second.connected != first.connected || second.Chat == nil || second.Input != nil || second.Blind {
		t.Errorf("the same tunnel: got %+v, want a chat since %v", second, first.connected)
	}
	g.session.Close()
	g = mustDial(t, r.url, "b", m.private)
	g.say(wire.Message{Activity: &wire.Activity{}})
	if third := next("a new tunnel"); third.connected == first.connected {
		t.Errorf("a new tunnel: got connected %v, want another time", third.connected)
	}
}

// A report is bounded, whatever it contains, and gets older while it waits.
func TestReportedUseIsPlausible(t *testing.T) {
	t.Parallel()
	year := longestAge.Milliseconds()
	value := func(v *int64) int64 {
		if v == nil {
			return -1
		}
		return *v
	}
	for _, c := range []struct{ age, want, late int64 }{
		{0, 0, 0}, {-1, 0, 0}, {math.MinInt64, 0, 5}, {math.MaxInt64, year, 1000}, {year, year, 1000}, {1000, 1500, 500},
	} {
		a := plausible(wire.Activity{Input: &c.age, Chat: &c.age, Agent: &c.age, Question: &c.age, Shell: &c.age}, time.Duration(c.late)*time.Millisecond)
		want := max(c.want, c.late)
		for name, v := range map[string]*int64{"input": a.Input, "chat": a.Chat, "agent": a.Agent, "question": a.Question, "shell": a.Shell} {
			if value(v) != want {
				t.Errorf("%s of %d ms, %d ms late: got %d, want %d", name, c.age, c.late, value(v), want)
			}
		}
	}
	for _, c := range []struct{ in, want int64 }{{-5, 0}, {0, 0}, {1000, 500}, {200, 0}, {year + 501, -1}, {math.MaxInt64, -1}, {math.MinInt64, 0}} {
		if got := plausible(wire.Activity{NextJob: &c.in}, 500*time.Millisecond); value(got.NextJob) != c.want {
			t.Errorf("next job in %d ms, half a second later: got %d, want %d", c.in, value(got.NextJob), c.want)
		}
	}
	for _, c := range []struct {
		meter string
		cost  int64
		want  int64
	}{
		{"m", 5, 5}, {"m", -5, 0}, {"m", math.MaxInt64, 0}, {"", 5, 0}, {"two words", 5, 0}, {string(make([]byte, 65)), 5, 0},
		{"m", instance.MaxModelCost, instance.MaxModelCost},
	} {
		if got := plausible(wire.Activity{Meter: c.meter, Cost: c.cost}, 0); got.Cost != c.want || (got.Meter == "") != (c.want == 0) {
			t.Errorf("meter %.10q with %d: got %q with %d, want %d", c.meter, c.cost, got.Meter, got.Cost, c.want)
		}
	}
}

// A machine that reports its use in every line reaches the port seldom; its last report counts.
func TestUseFloodIsPassedOnSeldom(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	var count, last atomic.Int64
	r.hub.c.Uses = reporter(func(a wire.Activity) {
		count.Add(1)
		if a.NextJob != nil {
			last.Store(1)
		}
	})
	g := mustDial(t, r.url, "b", m.private)
	began := time.Now()
	for range linesBurst - 10 {
		g.say(wire.Message{Activity: &wire.Activity{Input: ms(0)}})
	}
	g.say(wire.Message{Activity: &wire.Activity{NextJob: ms(1e7)}})
	eventually(t, "the last report", func() bool { return last.Load() == 1 })
	if got, most := count.Load(), int64(usesBurst+1+usesPerSecond*time.Since(began).Seconds()); got > most {
		t.Errorf("reports passed on: got %d, want at most %d", got, most)
	}
}

type reporter func(wire.Activity)

func (r reporter) Report(_, _ string, _ time.Time, a wire.Activity) { r(a) }

// metered runs a tunnel's deliveries of model costs within a bubble of virtual time; end ends the tunnel.
func metered(t *testing.T, h *Hub) (tun *tunnel, end func()) {
	t.Helper()
	tun = newTunnel(h, nil, nil, id, owner{}, "account")
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { tun.reportCosts(ctx) })
	return tun, func() { cancel(); all.Wait() }
}

// delivered returns what the store got since the last call.
func (m *machines) delivered() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.costs
	m.costs = nil
	return got
}

// A cost is delivered when it is known first, then after ten minutes and ten cents, or after an hour, and at the end.
func TestModelCostIsDelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachines(t)
		h, err := New(Config{Machines: m})
		if err != nil {
			t.Fatal(err)
		}
		tun, end := metered(t, h)
		after := func(d time.Duration, total int64, want ...string) {
			t.Helper()
			time.Sleep(d)
			tun.used(wire.Activity{Meter: "m1", Cost: total})
			synctest.Wait()
			if got := m.delivered(); len(got) != len(want) || len(got) > 0 && got[0] != want[0] {
				t.Errorf("a total of %d after %v more: got %q, want %q", total, d, got, want)
			}
		}
		after(0, 0)
		after(time.Second, 2500, "m1 2500")
		after(time.Second, 900_000)
		after(9*time.Minute, 910_000)
		after(61*time.Second, 920_000, "m1 910000") // due a second before this report
		after(11*time.Minute, 1_000_000)            // less than ten cents more
		after(10*time.Second, 1_009_999)
		after(10*time.Second, 1_010_000, "m1 1010000")
		after(11*time.Minute, 1_010_001)
		after(50*time.Minute, 1_010_001, "m1 1010001")
		after(20*time.Minute, 500_000) // a late report
		after(time.Second, 1_010_002)
		end()
		if got := m.delivered(); len(got) != 1 || got[0] != "m1 1010002" {
			t.Errorf("at the tunnel's end: got %q, want the last total", got)
		}
	})
}

// A cost that is not due when it is reported becomes due without another report, and one that fails is retried.
func TestModelCostWaitsForItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachines(t)
		h, err := New(Config{Machines: m})
		if err != nil {
			t.Fatal(err)
		}
		fails := 3
		m.costy = func() error {
			if fails > 0 {
				fails--
				return errors.New("the store is unavailable")
			}
			return nil
		}
		tun, end := metered(t, h)
		defer end()
		tun.used(wire.Activity{Meter: "m", Cost: 1})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := m.delivered(); len(got) != 1 || got[0] != "m 1" {
			t.Errorf("after failures: got %q, want the total once", got)
		}
		tun.used(wire.Activity{Meter: "m", Cost: 500_000})
		time.Sleep(costsEvery + time.Minute)
		synctest.Wait()
		if got := m.delivered(); len(got) != 1 || got[0] != "m 500000" {
			t.Errorf("without another report: got %q, want the total", got)
		}
		m.mu.Lock()
		m.costy = func() error { return instance.ErrGone }
		m.mu.Unlock()
		tun.used(wire.Activity{Meter: "m", Cost: 900_000})
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := m.delivered(); len(got) != 0 {
			t.Errorf("refused: got %q, want none", got)
		}
	})
}

// A hostile guest reports any totals of any meters and reconnects as often as it likes. The events of an hour stay few, and
// none of them is negative, or beyond what a meter may show.
func TestHostileMetersWriteFewEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMachines(t)
		h, err := New(Config{Machines: m})
		if err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(14, 14))
		totals := []int64{math.MinInt64, -1, 0, 1, 99_999, 100_000, 5_000_000, instance.MaxModelCost, instance.MaxModelCost + 1, math.MaxInt64}
		const hours = 5
		for began := time.Now(); time.Since(began) < hours*time.Hour; {
			tun, end := metered(t, h)
			for range rnd.IntN(20) {
				total := totals[rnd.IntN(len(totals))]
				if rnd.IntN(2) == 0 {
					total = rnd.Int64()
				}
				tun.used(wire.Activity{Meter: "m" + strconv.Itoa(rnd.IntN(4)), Cost: total})
				time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
			}
			end()
		}
		got := m.delivered()
		// Six in an hour, six at the end of tunnels, and what may come at once.
		if most := hours*12 + 3; len(got) > most || len(got) < hours {
			t.Errorf("events in %d hours: got %d, want %d to %d", hours, len(got), hours, most)
		}
		for _, e := range got {
			_, number, _ := strings.Cut(e, " ")
			if total, err := strconv.ParseInt(number, 10, 64); err != nil || total <= 0 || total > instance.MaxModelCost {
				t.Errorf("got an event of %q, want a total above 0 and up to %d", e, int64(instance.MaxModelCost))
			}
		}
		if len(h.costs) != 1 {
			t.Errorf("machines remembered: got %d, want 1", len(h.costs))
		}
	})
}

// Machines that have been away for long are forgotten.
func TestModelCostsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Config{Machines: newMachines(t)})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			h.mu.Lock()
			h.costsOf("01"+strconv.Itoa(i), time.Now()).at = time.Now()
			h.mu.Unlock()
			time.Sleep(costsKept / 50)
		}
		if len(h.costs) > 200 {
			t.Errorf("machines remembered: got %d, want at most 200", len(h.costs))
		}
	})
}

// What a guest reports right before it closes its tunnel is delivered.
func TestLastModelCost(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	g := mustDial(t, r.url, "b", m.private)
	g.say(wire.Message{Activity: &wire.Activity{Meter: "m", Cost: 7}})
	eventually(t, "the first cost", func() bool { got := m.delivered(); return len(got) == 1 && got[0] == "m 7" })
	g.say(wire.Message{Activity: &wire.Activity{Meter: "m", Cost: 8}})
	g.session.Close()
	eventually(t, "the last cost", func() bool { got := m.delivered(); return len(got) == 1 && got[0] == "m 8" })
}
