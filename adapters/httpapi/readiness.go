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

// Probe checks one thing that the server must be able to do.
type Probe struct {
	Name string
	// Try does it and leaves nothing behind. If the error wraps a *domain.Error, /ready shows its message.
	Try func(ctx context.Context) error
	// Degrades says what does not work while Try fails, if commands and queries still do, such as "desktops
	// cannot be opened". "": the server is not ready while Try fails.
	Degrades string
	// Grave reports whether an error makes the server not ready despite Degrades. Nil: no error does.
	Grave func(error) bool
}

// Fatal reports whether an error of Try means that the server is not ready.
func (p Probe) Fatal(err error) bool {
	return err != nil && (p.Degrades == "" || p.Grave != nil && p.Grave(err))
}

const (
	probeTime  = 3 * time.Second // for one try
	probeSoon  = time.Second     // between tries of a probe that fails
	probeLater = 3 * time.Second // between tries of a probe that works
	probeStale = 2 * (probeTime + probeLater)
)

// Readiness runs the probes in the background and remembers their results, so that any number of requests
// costs nothing. A nil Readiness is ready.
type Readiness struct {
	log    *slog.Logger
	began  time.Time
	probes []*tried
}

// tried is a probe with the result of its last try.
type tried struct {
	Probe
	gauge prometheus.Gauge

	mu    sync.Mutex
	began time.Time
	at    time.Time // zero: not tried yet
	err   error
	once  bool   // whether it has worked once
	said  string // the error that was logged last; "" while the probe works
}

// NewReadiness returns a Readiness; Run runs it. Its metrics go to the registry.
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

// Run tries the probes until ctx ends, each in its own goroutine: a probe that hangs does not delay others.
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

// try runs the probe once, records the result and reports whether it worked. Each change is logged once. A
// probe that never worked is logged only after the time that parts may take to start.
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
		log.Info("part recovered", "part", t.Name)
	case err != nil && t.said != err.Error() && (t.once || time.Since(t.began) > probeStale): // parts start one after the other
		t.said = err.Error()
		log.Warn("part failed", "part", t.Name, "ready", !t.Fatal(err), "err", err)
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

// Report is the state of the parts.
type Report struct {
	Ready    bool              // whether commands and queries work
	Checks   map[string]string // by part: ok, degraded, failed, no answer
	Reasons  []string          // why the server is not ready; public
	Degraded []string          // what does not work although the server is ready
}

// Report returns the results of the last tries.
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
			report.Reasons = append(report.Reasons, t.Name+": Not checked yet.")
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

// public returns the part of an error that anyone may read: the message of a *domain.Error.
func public(err error) string {
	if d := (*domain.Error)(nil); errors.As(err, &d) {
		return d.Msg
	}
	return "Not working; see the server's log."
}
