package activity_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/activity"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// written collects what Reports writes.
type written struct {
	mu   sync.Mutex
	list []activity.Report
	at   []time.Time
	fail bool
}

func (w *written) put(_ context.Context, list []activity.Report) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail {
		return errDown
	}
	for _, r := range list {
		w.list, w.at = append(w.list, r), append(w.at, time.Now())
	}
	return nil
}

// take returns what was written since it was called last.
func (w *written) take() []activity.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.list
	w.list, w.at = nil, nil
	return list
}

func ms(d time.Duration) *int64 { n := d.Milliseconds(); return &n }

// reporting runs f with reports that are written, in virtual time.
func reporting(t *testing.T, every time.Duration, f func(t *testing.T, r *activity.Reports, w *written)) {
	synctest.Test(t, func(t *testing.T) {
		w := &written{}
		r := &activity.Reports{Put: w.put, Every: every}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		f(t, r, w)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestReportsAreThrottled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		every time.Duration
		a     func(i int) wire.Activity // of the report i, every 15 s
		want  int                       // writes in an hour
	}{
		"idle":              {0, func(i int) wire.Activity { return wire.Activity{Input: ms(time.Duration(i) * 15 * time.Second)} }, 60},
		"never used":        {0, func(int) wire.Activity { return wire.Activity{} }, 60},
		"a working agent":   {0, func(int) wire.Activity { return wire.Activity{Agent: ms(0)} }, 120},
		"a short limit":     {10 * time.Second, func(int) wire.Activity { return wire.Activity{Agent: ms(0)} }, 240},
		"blind and not":     {0, func(i int) wire.Activity { return wire.Activity{Blind: i%2 == 0} }, 240},
		"invented activity": {0, func(i int) wire.Activity { return wire.Activity{Input: ms(-time.Duration(i) * time.Hour)} }, 120},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reporting(t, c.every, func(t *testing.T, r *activity.Reports, w *written) {
				tunnel := time.Now()
				for i := range 240 {
					r.Report("ada", "x", tunnel, c.a(i))
					time.Sleep(15 * time.Second)
				}
				if got := len(w.take()); got < c.want-1 || got > c.want+1 {
					t.Errorf("got %d writes in an hour, want about %d", got, c.want)
				}
			})
		})
	}
}

// Use that resumes is written immediately, and so are a new tunnel and a guest that becomes blind.
func TestUrgentReports(t *testing.T) {
	t.Parallel()
	reporting(t, 0, func(t *testing.T, r *activity.Reports, w *written) {
		tunnel := time.Now()
		soon := func(what string, want bool) activity.Report {
			t.Helper()
			time.Sleep(500 * time.Millisecond)
			list := w.take()
			if (len(list) == 1) != want {
				t.Fatalf("%s: got %+v, want one report: %v", what, list, want)
			}
			if !want {
				return activity.Report{}
			}
			return list[0]
		}
		r.Report("ada", "x", tunnel, wire.Activity{Input: ms(time.Minute)})
		first := soon("a new tunnel", true)
		if !first.Known.Equal(first.At) || first.At.Sub(first.Input) != time.Minute {
			t.Errorf("got %+v, want known from then, and its input a minute before", first)
		}
		time.Sleep(15 * time.Second)
		r.Report("ada", "x", tunnel, wire.Activity{Input: ms(75 * time.Second)})
		soon("nothing new", false)
		r.Report("ada", "x", tunnel, wire.Activity{Input: ms(0)})
		if got := soon("use resumes", true); !got.Known.Equal(first.Known) || !got.Input.Equal(got.At) {
			t.Errorf("got %+v, want known as before and input at that moment", got)
		}
		time.Sleep(5 * time.Second)
		r.Report("ada", "x", tunnel, wire.Activity{Input: ms(0)})
		soon("use goes on", false)
		r.Report("ada", "x", tunnel, wire.Activity{Input: ms(0), Blind: true})
		soon("blind", true)
		r.Report("ada", "x", tunnel, wire.Activity{Input: ms(0)})
		if got := soon("it sees again", true); !got.Known.Equal(got.At) {
			t.Errorf("got %+v, want known from then", got)
		}
		again := time.Now()
		r.Report("ada", "x", again, wire.Activity{})
		if got := soon("another tunnel", true); !got.Known.Equal(got.At) {
			t.Errorf("got %+v, want known from then", got)
		}
		time.Sleep(3 * time.Minute)
		w.take()
		r.Report("ada", "x", again, wire.Activity{})
		if got := soon("a gap", true); !got.Known.Equal(got.At) {
			t.Errorf("got %+v, want known from then", got)
		}
		huge := int64(math.MaxInt64)
		r.Report("bob", "x", again, wire.Activity{Input: &huge, Chat: ms(-time.Hour), NextJob: &huge})
		if got := soon("another account", true); got.Account != "bob" || !got.Input.IsZero() || !got.Chat.Equal(got.At) || !got.NextJob.IsZero() {
			t.Errorf("got %+v, want impossible ages left out", got)
		}
	})
}

// A report that could not be written is written later, with its time; a batch holds many desktops; the last is not lost.
func TestReportsAreRetried(t *testing.T) {
	t.Parallel()
	var w *written
	reporting(t, 0, func(t *testing.T, r *activity.Reports, all *written) {
		w = all
		w.fail = true
		for _, id := range []string{"x", "y", "z"} {
			r.Report("ada", id, time.Now(), wire.Activity{Input: ms(0)})
		}
		began := time.Now()
		time.Sleep(20 * time.Second)
		w.mu.Lock()
		w.fail = false
		w.mu.Unlock()
		time.Sleep(3 * time.Second)
		list := w.take()
		if len(list) != 3 || !list[0].At.Equal(began) {
			t.Errorf("got %+v, want the three reports of %v", list, began)
		}
		r.Report("ada", "x", time.Now(), wire.Activity{Input: ms(0)}) // and then the server ends
	})
	if list := w.take(); len(list) != 1 {
		t.Errorf("got %+v when the server ended, want the last report", list)
	}
}
