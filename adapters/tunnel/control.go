package tunnel

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/mux"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
	maxReports = 16  // waiting for the store; beyond that the oldest is dropped
	maxDetail  = 300 // bytes of a phase's detail

	maxVersions = 16 // that a machine may report
	maxProgram  = 32 // bytes of a name
	maxVersion  = 64 // bytes of a version

	linesPerSecond = 100 // of any kind, on average; a guest that sends more is broken
	linesBurst     = 10 * linesPerSecond

	reportsPerSecond = 1  // delivered to the store, on average; a report that changes nothing costs a read, too
	reportsBurst     = 32 // a boot has six
)

// listen reads the control stream until it ends. Its messages affect only the guest's own machine.
func (t *tunnel) listen(control *mux.Stream) error {
	lines := wire.NewLines(control)
	all := bucket{rate: linesPerSecond, size: linesBurst, tokens: linesBurst, at: time.Now()}
	for {
		m, err := lines.Next()
		if err != nil {
			return err
		}
		if !all.take(time.Now()) {
			return errors.New("too many control lines")
		}
		t.mu.Lock()
		t.heard = t.h.now()
		t.mu.Unlock()
		switch {
		case m.Hello != nil:
			if err := t.greetedBy(*m.Hello); err != nil {
				return err
			}
		case m.Phase != nil:
			t.reached(*m.Phase)
		case m.State != nil:
			t.stated(*m.State)
		case m.Activity != nil:
			t.used(*m.Activity)
		} // a health report only shows that the machine is heard
	}
}

func (t *tunnel) greetedBy(h wire.Hello) error {
	if h.Boot != t.boot || len(h.VNCPassword) > 64 || len(h.GatewayToken) > 256 {
		return errors.New("the hello does not match the greeting")
	}
	h.Version, h.Desktop, h.Agent = clip(h.Version, 64), clip(h.Desktop, 64), clip(h.Agent, 64)
	h.Versions = sanitize(h.Versions)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !maps.Equal(h.Versions, t.hello.Versions) {
		t.enqueue(&report{versions: h.Versions})
	}
	t.hello = h
	if !t.greeted() {
		close(t.ready)
	}
	return nil
}

// sanitize returns the part of a machine's reported versions that the log may hold: always the same for the same input.
func sanitize(versions map[string]string) map[string]string {
	kept := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		version := versions[name]
		if name == "" || version == "" || len(name) > maxProgram || !printable(name) || !printable(version) {
			continue
		}
		if kept[name] = clip(version, maxVersion); len(kept) == maxVersions {
			break
		}
	}
	return kept
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) < 0
}

// report is a machine's message for the store.
type report struct {
	phase    wire.Phase
	versions map[string]string // nil: it is a phase
}

// enqueue queues a report for delivery. The caller holds t.mu.
func (t *tunnel) enqueue(r *report) {
	t.reports = append(t.reports, r)
	if len(t.reports) > maxReports {
		t.reports = t.reports[1:]
	}
	select {
	case t.reported <- struct{}{}:
	default:
	}
}

// deliver sends one report to the store.
func (t *tunnel) deliver(ctx context.Context, r *report) error {
	if r.versions != nil {
		return t.h.c.Machines.Versions(ctx, t.instance, t.boot, r.versions)
	}
	return t.h.c.Machines.Reached(ctx, t.instance, t.boot, instance.Phase(r.phase.Phase), r.phase.Detail)
}

// reached queues a phase for the store.
func (t *tunnel) reached(p wire.Phase) {
	if instance.Phase(p.Phase).Rank() < instance.PhaseBooting.Rank() {
		return
	}
	p.Detail = clip(p.Detail, maxDetail)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.enqueue(&report{phase: p})
}

// report delivers the machine's reports in order and retries each until the store accepts it. Each tunnel has
// its own goroutine for this, so one machine's failures do not delay another.
func (t *tunnel) report(ctx context.Context, cancel context.CancelCauseFunc) {
	wait := backoff()
	room := bucket{rate: reportsPerSecond, size: reportsBurst, tokens: reportsBurst, at: time.Now()}
	for {
		t.mu.Lock()
		var next *report
		if len(t.reports) > 0 {
			next = t.reports[0]
		}
		t.mu.Unlock()
		if next == nil {
			select {
			case <-ctx.Done():
				return
			case <-t.reported:
			}
			continue
		}
		if !room.take(time.Now()) {
			if retry.Sleep(ctx, time.Second/reportsPerSecond) != nil {
				return
			}
			continue // the oldest report may have been dropped meanwhile
		}
		err := t.deliver(ctx, next)
		if ctx.Err() != nil {
			return
		}
		var d *domain.Error
		if err != nil && (!errors.As(err, &d) || d.Kind == domain.Unavailable || d.Kind == domain.Exhausted) {
			if t.passed(next, err) {
				continue
			}
			t.h.log.Warn("report not delivered, will retry", "instance", t.instance, "phase", next.phase.Phase, "err", err)
			if wait.Max = longestRetry(err); wait.Sleep(ctx) != nil {
				return
			}
			continue
		}
		wait.Reset()
		t.mu.Lock()
		if len(t.reports) > 0 && t.reports[0] == next { // it may have been dropped meanwhile
			t.reports = t.reports[1:]
		}
		t.mu.Unlock()
		if d != nil {
			t.h.log.Info("report refused", "instance", t.instance, "phase", next.phase.Phase, "code", d.Code)
			if d.Kind == domain.NotFound {
				cancel(errGone)
				return
			}
		}
	}
}

// passed drops a phase above the machine's limit of phases if a later one waits, and reports whether it did.
func (t *tunnel) passed(r *report, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !errors.Is(err, instance.ErrPhases) || len(t.reports) < 2 || t.reports[0] != r || t.reports[1].versions != nil {
		return false
	}
	t.reports = t.reports[1:]
	return true
}

// longestRetry returns the longest wait after err: a machine's limit of phases recovers slowly.
func longestRetry(err error) time.Duration {
	if errors.Is(err, instance.ErrPhases) {
		return instance.PhaseEvery / 2
	}
	return lastRetry
}

// backoff returns the waits between a tunnel's retries.
func backoff() retry.Backoff { return retry.Backoff{First: firstRetry, Max: lastRetry, Jitter: true} }

func (t *tunnel) wantKeys() {
	select {
	case t.keys <- struct{}{}:
	default:
	}
}

// sendKeys sends the keys whenever they are requested, and retries failures.
func (t *tunnel) sendKeys(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.keys:
		}
		for wait := backoff(); ; {
			env, err := t.h.c.Machines.Keys(ctx, t.account, t.instance)
			if err == nil {
				if err = t.send(wire.Message{Keys: &wire.Keys{Env: env}}); err != nil {
					t.stop() // a tunnel is useless if its control stream cannot be written
					return
				}
				break
			}
			if ctx.Err() == nil {
				t.h.log.Warn("account keys not read, will retry", "instance", t.instance, "err", err)
			}
			if wait.Sleep(ctx) != nil {
				return
			}
		}
	}
}

func (t *tunnel) send(m wire.Message) error {
	t.sendMu.Lock()
	defer t.sendMu.Unlock()
	if t.control == nil {
		return errors.New("no control stream yet")
	}
	_ = t.control.SetWriteDeadline(time.Now().Add(wire.WriteTimeout))
	return wire.WriteLine(t.control, m, wire.MaxLine)
}

// bucket allows rate a second, with bursts of size.
type bucket struct {
	rate, size, tokens float64
	at                 time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(b.size, b.tokens+b.rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
