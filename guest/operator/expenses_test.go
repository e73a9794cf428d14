package operator

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A cost counts once, in whole micro-dollars, if it is plausible.
func TestExpenses(t *testing.T) {
	t.Parallel()
	var e expenses
	for _, c := range []struct {
		payload string
		total   int64
	}{
		{`{"sessionKey":"a","messageId":"1","message":{"role":"assistant","usage":{"cost":{"total":0.0123}}}}`, 12_300},
		{`{"sessionKey":"a","messageId":"1","message":{"role":"assistant","usage":{"cost":{"total":0.0123}}}}`, 12_300},
		{`{"sessionKey":"a","messageId":"1","message":{"role":"assistant","usage":{"cost":{"total":5}}}}`, 12_300},
		{`{"sessionKey":"b","messageId":"1","message":{"usage":{"cost":{"total":0.29}}}}`, 302_300},
		{`{"sessionKey":"b","message":{"usage":{"cost":{"total":0.1}},"__openclaw":{"id":"1","seq":9}}}`, 302_300},
		{`{"sessionKey":"b","message":{"usage":{"cost":{"total":0.1}},"__openclaw":{"id":"2"}}}`, 402_300},
		{`{"sessionKey":"b","messageSeq":7,"message":{"timestamp":123,"usage":{"cost":{"total":0.1}}}}`, 502_300},
		{`{"sessionKey":"b","messageSeq":7,"message":{"timestamp":123,"usage":{"cost":{"total":0.1}}}}`, 502_300},
		{`{"sessionKey":"b","messageId":"3","message":{"usage":{"cost":{"total":0.0000019}}}}`, 502_301},
		{`{"sessionKey":"b","messageId":"4","message":{"usage":{"cost":{"total":-1}}}}`, 502_301},
		{`{"sessionKey":"b","messageId":"5","message":{"usage":{"cost":{"total":1001}}}}`, 502_301},
		{`{"sessionKey":"b","messageId":"6","message":{"usage":{"cost":{"total":1e308}}}}`, 502_301},
		{`{"sessionKey":"b","messageId":"7","message":{"usage":{"cost":{"total":1e400}}}}`, 502_301},
		{`{"sessionKey":"b","messageId":"8","message":{"usage":{"cost":{"total":"1"}}}}`, 502_301},
		{`{"sessionKey":"b","messageId":"9","message":{"usage":{"cost":null}}}`, 502_301},
		{`{"sessionKey":"b","messageId":"10","message":{"usage":{"cost":{"total":null}}}}`, 502_301},
		{`{"sessionKey":"b","messageId":"11","message":{"role":"user"}}`, 502_301},
		{`nonsense`, 502_301},
		{`{"sessionKey":"b","messageId":"12","message":{"usage":{"cost":{"total":1000}}}}`, 1_000_502_301},
	} {
		if e.add(json.RawMessage(c.payload)); e.total != c.total {
			t.Errorf("after %s: got %d, want %d", c.payload, e.total, c.total)
		}
	}
	if got := microsOf(math.NaN()); got != 0 {
		t.Errorf("not a number: got %d, want 0", got)
	}
}

// Whatever a hostile gateway sends, the total stays within its limit and the memory within its own.
func TestExpensesAreBounded(t *testing.T) {
	t.Parallel()
	var e expenses
	for i := range 3 * maxCounted {
		e.add(json.RawMessage(fmt.Sprintf(`{"sessionKey":"s","messageId":"%d","message":{"usage":{"cost":{"total":1000}}}}`, i)))
	}
	if e.total != 3*maxCounted*1_000_000_000 && e.total != maxExpenses || len(e.counted) != maxCounted || len(e.order) != maxCounted {
		t.Errorf("got %d micro-dollars of %d messages, want %d messages", e.total, len(e.counted), maxCounted)
	}
	e.total = maxExpenses - 1
	if e.add(json.RawMessage(`{"messageId":"last","message":{"usage":{"cost":{"total":1000}}}}`)); e.total != maxExpenses {
		t.Errorf("at the limit: got %d, want %d", e.total, int64(maxExpenses))
	}
}

// A run that waits for an answer is work for as long as its prompt counts, and again when it goes on. Another run is work.
func TestRunThatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := New(Config{})
		o.setRuns(1)
		o.works()
		p := &prompt{kind: question, id: "q", session: "main"}
		p.begin(time.Now())
		o.prompts = []*prompt{p}
		works := func(what string, want bool) {
			t.Helper()
			o.setRuns(o.runs) // the list of runs is read again and again
			if got := o.Work().Worked.Equal(time.Now()); got != want {
				t.Errorf("%s: got works %v, want %v", what, got, want)
			}
		}
		time.Sleep(59 * time.Minute)
		works("within the hour", true)
		time.Sleep(2 * time.Minute)
		works("after an hour", false)
		o.setRuns(2)
		works("beside another run", true)
		o.setRuns(1)
		time.Sleep(time.Minute)
		works("alone again", false)
		o.works()
		time.Sleep(time.Minute)
		works("after a sign of life", true)
	})
}

// Runs are known only from a list of chats: an answer that cannot be read says nothing about them.
func TestRunsIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		payload string
		n       int
		known   bool
	}{
		{`{"sessions":[]}`, 0, true},
		{`{"sessions":[{"hasActiveRun":true},{"hasActiveRun":false,"status":"running"},{"status":"running"},{}]}`, 2, true},
		{`{"sessions":[{"hasActiveRun":"yes"}]}`, 0, false},
		{`{"sessions":{}}`, 0, false},
		{`{"items":[{"hasActiveRun":true}]}`, 0, false},
		{`{}`, 0, false},
		{`[]`, 0, false},
	} {
		if n, known := runsIn(json.RawMessage(c.payload)); n != c.n || known != c.known {
			t.Errorf("%s: got %d, %v, want %d, %v", c.payload, n, known, c.n, c.known)
		}
	}
}

// The jobs are those that are enabled and have a time, the earliest first.
func TestJobsIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		payload string
		due     []int64
		running bool
	}{
		{`{"jobs":[]}`, nil, false},
		{`{"jobs":[{"enabled":true,"state":{"nextRunAtMs":200}},{"enabled":true,"state":{"nextRunAtMs":100}}],"total":2}`, []int64{100, 200}, false},
		{`{"jobs":[{"enabled":false,"state":{"nextRunAtMs":50}},{"state":{"nextRunAtMs":100}}]}`, []int64{100}, false},
		{`{"jobs":[{"enabled":true,"state":{}},{"enabled":true}]}`, nil, false},
		{`{"jobs":[{"enabled":true,"state":{"nextRunAtMs":"soon"}},{"enabled":true,"state":{"nextRunAtMs":-5}},{"enabled":true,"state":{"nextRunAtMs":1e30}}]}`, nil, false},
		{`{"jobs":[{"enabled":true,"state":{"runningAtMs":5,"nextRunAtMs":100}}]}`, []int64{100}, true},
		{`{"jobs":{}}`, nil, false},
		{`[]`, nil, false},
		{`{"jobs":[{"declarationKey":"skill-collection-review:main","enabled":true,"state":{"nextRunAtMs":1000}},{"enabled":true,"state":{"nextRunAtMs":2000}}]}`, []int64{2000}, false}, // the first one is the gateway\'s own
	} {
		if due, running := jobsIn(json.RawMessage(c.payload)); !slices.Equal(due, c.due) || running != c.running {
			t.Errorf("%s: got %d, %v, want %d, %v", c.payload, due, running, c.due, c.running)
		}
	}
}

// A job that is late for longer than one takes to begin does not run. It must not hide the ones after it, nor be due without end.
func TestNextJob(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_900_000_000_000)
	for name, c := range map[string]struct {
		due  []time.Duration // from now on
		want time.Duration
		ok   bool
	}{
		"none":            {nil, 0, false},
		"one to come":     {[]time.Duration{time.Hour, 2 * time.Hour}, time.Hour, true},
		"one that begins": {[]time.Duration{-time.Minute, time.Hour}, -time.Minute, true},
		"a dead one":      {[]time.Duration{-time.Hour, time.Hour}, time.Hour, true},
		"only dead ones":  {[]time.Duration{-time.Hour, -lateJob}, 0, false},
	} {
		var w work
		for _, in := range c.due {
			w.due = append(w.due, now.Add(in).UnixMilli())
		}
		if in, ok := w.nextJob(now); in != c.want || ok != c.ok {
			t.Errorf("%s: got %v, %v, want %v, %v", name, in, ok, c.want, c.ok)
		}
	}
}

// A prompt counts as waiting within its own deadline, and at most an hour after it was first seen.
func TestWaited(t *testing.T) {
	t.Parallel()
	seen := time.Now()
	for _, c := range []struct {
		until time.Duration // 0: it has no deadline
		after time.Duration
		want  time.Duration
	}{
		{0, time.Minute, time.Minute}, {0, 2 * time.Hour, time.Hour}, {10 * time.Minute, 5 * time.Minute, 5 * time.Minute},
		{10 * time.Minute, time.Hour, 10 * time.Minute}, {3 * time.Hour, 2 * time.Hour, time.Hour}, {-time.Minute, time.Hour, 0},
	} {
		p := &prompt{}
		if c.until != 0 {
			p.until = seen.Add(c.until).UnixMilli()
		}
		p.begin(seen)
		got := p.waited(seen.Add(c.after)).Sub(seen)
		if d := got - c.want; d > time.Millisecond || d < -time.Millisecond {
			t.Errorf("deadline after %v, looked at after %v: got waiting for %v, want %v", c.until, c.after, got, c.want)
		}
	}
}
