package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Probe is one thing that the server must be able to do.
type Probe struct {
	Name string
	// Try does it, and leaves nothing behind. An error with a *domain.Error in it says with that what
	// strangers may know.
	Try func(ctx context.Context) error
	// Degrades says what is missing while Try fails, if commands and queries go on meanwhile:
	// "desktops cannot be opened". "": without it the server is not ready.
	Degrades string
	// Grave tells the errors that make the server not ready all the same. Nil: none.
	Grave func(error) bool
}

// Fatal tells whether an error of Try means that the server is not ready.
func (p Probe) Fatal(err error) bool {
	return err != nil && (p.Degrades == "" || p.Grave != nil && p.Grave(err))
}

const (
	probeTime  = 3 * time.Second // for one try
	probeSoon  = time.Second     // to the next try of what failed: none is tried more often
	probeLater = 3 * time.Second // of what worked
	probeStale = 2 * (probeTime + probeLater)
)

// Readiness tries the probes in the background and remembers how it went, so that any number of
// questions costs nothing. A nil one is ready.
type Readiness struct {
	log    *slog.Logger
	began  time.Time
	probes []*tried
}

// tried is a probe and how its last try went.
type tried struct {
	Probe
	gauge prometheus.Gauge

	mu    sync.Mutex
	began time.Time
	at    time.Time // zero: not tried yet
	err   error
	once  bool   // it has worked once
	said  string // the error that was logged last, "" while all is well
}

// NewReadiness makes a Readiness; Run runs it. Its metrics go to the registry.
func NewReadiness(probes []Probe, log *slog.Logger, metrics prometheus.Registerer) (*Readiness, error) {
	degraded := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "cloudbot_degraded", Help: "1 while a part does not work, by what /ready calls it.",
	}, []string{"part"})
	if err := metrics.Register(degraded); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	r := &Readiness{log: log, began: time.Now()}
	for _, p := range probes {
		t := &tried{Probe: p, gauge: degraded.WithLabelValues(p.Name), began: r.began}
		t.gauge.Set(1)
		r.probes = append(r.probes, t)
	}
	return r, nil
}

// Run tries the probes until ctx ends, each in its own time: one that hangs holds up no other.
func (r *Readiness) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, t := range r.probes {
		all.Go(func() {
			soon := retry.Backoff{First: 20 * time.Millisecond, Max: probeSoon} // while parts start one after the other
			for wait := time.Duration(0); retry.Sleep(ctx, wait) == nil; {
				if t.try(ctx, r.log) {
					soon, wait = retry.Backoff{First: probeSoon}, probeLater
				} else {
					wait = soon.Next()
				}
			}
		})
	}
	all.Wait()
	return nil
}

// try tries once, notes how it went, and tells whether it went well. Each change is logged once; what
// does not work from the start is logged once it had the time to.
func (t *tried) try(ctx context.Context, log *slog.Logger) bool {
	trying, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	err := t.safely(trying)
	if ctx.Err() != nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil && t.said != "":
		t.said = ""
		log.Info("works again", "part", t.Name)
	case err != nil && t.said != err.Error() && (t.once || time.Since(t.began) > probeStale): // at first parts come up one after the other
		t.said = err.Error()
		log.Warn("does not work", "part", t.Name, "ready", !t.Fatal(err), "err", err)
	}
	t.at, t.err, t.once = time.Now(), err, t.once || err == nil
	if err == nil {
		t.gauge.Set(0)
	} else {
		t.gauge.Set(1)
	}
	return err == nil
}

func (t *tried) safely(ctx context.Context) (err error) {
	defer crash.Caught(&err)
	return t.Try(ctx)
}

// Report is what is known of the parts.
type Report struct {
	Ready    bool              // commands and queries work
	Checks   map[string]string // by part: ok, degraded, failed, no answer
	Reasons  []string          // why it is not ready, for anybody to read
	Degraded []string          // what does not work although it is
}

// Report returns what the last tries have found out.
func (r *Readiness) Report() Report {
	report := Report{Ready: true, Checks: map[string]string{}}
	if r == nil {
		return report
	}
	for _, t := range r.probes {
		t.mu.Lock()
		at, err := t.at, t.err
		t.mu.Unlock()
		said := "failed"
		if time.Since(at) > probeStale {
			said, err = "no answer", errNoWord
		}
		switch {
		case at.IsZero() && time.Since(r.began) < probeStale:
			report.Ready = false
			report.Reasons = append(report.Reasons, t.Name+": It has not been tried yet.")
		case err == nil:
			said = "ok"
		case t.Fatal(err):
			report.Ready = false
			report.Reasons = append(report.Reasons, t.Name+": "+public(err))
		default:
			if said == "failed" {
				said = "degraded"
			}
			report.Degraded = append(report.Degraded, t.Name+": "+t.Degrades)
		}
		report.Checks[t.Name] = said
	}
	return report
}

var errNoWord = errors.New("no answer")

// public is what strangers may know of an error: what was written for them.
func public(err error) string {
	if d := (*domain.Error)(nil); errors.As(err, &d) {
		return d.Msg
	}
	return "It does not work; the server's log says why."
}
