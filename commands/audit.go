package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/audit"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// maxNotes bounds the notes that wait to be written. Of one kind and account at most an hour's share waits, so that a
// flood for one account leaves room for others. Notes beyond maxNotes are dropped and their count is logged.
const maxNotes = 1024

// Audit records what happens to an account without changing it. It works in the background and no request waits for it,
// so that a failed log-in takes as long for an address without an account. A nil Audit records nothing.
type Audit struct {
	log    Log
	logger *slog.Logger
	notes  chan note
	lost   atomic.Int64 // since this was last logged

	mu      sync.Mutex
	waiting map[noteKey]int
}

type note struct {
	noteKey
	command audit.Command
}

type noteKey struct{ account, kind string }

// NewAudit returns an Audit. Its Run writes the notes.
func NewAudit(log Log, logger *slog.Logger) *Audit {
	return &Audit{log: log, logger: logger, notes: make(chan note, maxNotes), waiting: map[noteKey]int{}}
}

// LogInFailed records a wrong password.
func (a *Audit) LogInFailed(account string) {
	if a != nil {
		a.note(account, audit.FailLogIn{At: a.log.Now()})
	}
}

// KeysHandedOut records that one of the account's machines received its keys.
func (a *Audit) KeysHandedOut(account, instance string) {
	if a != nil {
		a.note(account, audit.HandOutKeys{Instance: instance, At: a.log.Now()})
	}
}

// DiagnosticsRead records that a diagnostics report of a machine was read.
func (a *Audit) DiagnosticsRead(account, instance, report string) {
	if a != nil {
		a.note(account, audit.ReadDiagnostics{Instance: instance, Report: report, At: a.log.Now()})
	}
}

func (a *Audit) note(account string, c audit.Command) {
	n := note{noteKey{account, fmt.Sprintf("%T", c)}, c}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[n.noteKey] >= audit.PerHour {
		return // the decider would refuse it as well
	}
	select {
	case a.notes <- n:
		a.waiting[n.noteKey]++
	default:
		a.lost.Add(1)
	}
}

// written makes room for another note like n.
func (a *Audit) written(n note) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[n.noteKey]--; a.waiting[n.noteKey] == 0 {
		delete(a.waiting, n.noteKey)
	}
}

// Run writes the notes until ctx ends, and retries each until the log accepts it. Notes that wait when ctx ends are
// lost.
func (a *Audit) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-a.notes:
			for wait := (retry.Backoff{First: 100 * time.Millisecond, Max: 5 * time.Second}); ; {
				err := a.write(ctx, n)
				if ctx.Err() != nil {
					return nil
				}
				if err == nil || errors.Is(err, eventstore.ErrDamaged) { // damage is reported elsewhere, and a retry does not help
					break
				}
				a.logger.WarnContext(ctx, "audit event not written, will retry", "err", err)
				if wait.Sleep(ctx) != nil {
					return nil
				}
			}
			a.written(n)
			if lost := a.lost.Swap(0); lost > 0 {
				a.logger.WarnContext(ctx, "audit events dropped: more arrived than could be written", "count", lost)
			}
		}
	}
}

func (a *Audit) write(ctx context.Context, n note) error {
	_, err := eventstore.Run(ctx, a.log.Store, a.log.stamp(Origin{}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		_, err := audits.Execute(ctx, u, n.account, n.command)
		return nil, err
	})
	return err
}
