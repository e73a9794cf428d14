package ec2_test

import (
	"context"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// looks notes when the cloud was asked and showed machines running, by machine.
type looks struct {
	mu        sync.Mutex
	processes int
	ran       map[string][]look
	seen      map[string][]look // whatever they did, at the time of the answer
	shown     map[string][]look // running, at the time of the answer to the saga
}

type look struct {
	at      time.Time
	process int
	saga    bool // not the reconciler
}

func (l *looks) at(i machines.Inventory) machines.Inventory {
	l.processes++
	return watching{i, l, l.processes}
}

type watching struct {
	machines.Inventory
	looks   *looks
	process int
}

func (w watching) Describe(ctx context.Context, ids []string) ([]machines.Machine, error) {
	asked := time.Now()
	list, err := w.Inventory.Describe(ctx, ids)
	w.looks.note(look{asked, w.process, true}, list)
	return list, err
}

func (w watching) List(ctx context.Context) ([]machines.Tagged, error) {
	asked := time.Now()
	list, err := w.Inventory.List(ctx)
	for _, m := range list {
		w.looks.note(look{asked, w.process, false}, []machines.Machine{m.Machine})
	}
	return list, err
}

func (l *looks) note(asked look, list []machines.Machine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ran == nil {
		l.ran, l.seen, l.shown = map[string][]look{}, map[string][]look{}, map[string][]look{}
	}
	for _, m := range list {
		answered := asked
		answered.at = time.Now()
		l.seen[m.ID] = append(l.seen[m.ID], answered)
		if m.Seen == instance.SeenRunning {
			l.ran[m.ID] = append(l.ran[m.ID], asked)
			if asked.saga {
				l.shown[m.ID] = append(l.shown[m.ID], answered)
			}
		}
	}
}

// between returns the last look before a time that showed the machine running, and the next look after it.
func (l *looks) between(machine string, at time.Time) (before, after look) {
	for _, look := range l.ran[machine] {
		if look.at.Before(at) && look.at.After(before.at) {
			before = look
		}
	}
	for _, look := range l.seen[machine] {
		if look.at.After(at) && (after.at.IsZero() || look.at.Before(after.at)) {
			after = look
		}
	}
	return before, after
}

// missed reports whether a process was shown twice that a machine ran, after it began to and before it was recorded.
func (l *looks) missed(machine string, began, recorded time.Time) bool {
	first := look{}
	for _, look := range l.shown[machine] {
		switch {
		case look.at.Before(began) || !look.at.Before(recorded):
		case look.process == first.process:
			return true
		default:
			first = look
		}
	}
	return false
}
