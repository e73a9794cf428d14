package httpapi

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/projections"
)

// maxAnswers bounds the bytes of the answers that are kept.
const maxAnswers = 64 << 20

// answers keeps the answers to lists that were made in the current second: costs and idle times change with the clock. An answer
// is used only if the read models show no later event of its account, so what a caller has written is never missing. The zero
// value is ready to use.
type answers struct {
	mu     sync.Mutex
	second int64
	by     map[answerKey]*listAnswer
	bytes  int
	clears int
}

type answerKey struct {
	account string
	page    projections.Page
}

// listAnswer is an answer to a list.
type listAnswer struct {
	at   int64  // the answer has all events up to this position
	live []live // of the instances that may have a machine that runs
	body []byte
}

// live is what this process knows of an instance beside the read models.
type live struct {
	id     string
	agent  wire.State
	ask    bool // whether its machine should respond
	silent bool // it does not
	since  time.Time
	gone   bool // its machine does not run, so nothing is known here
}

// get returns the answer to a list that was made in the second of now, nil for none, and what put needs.
func (a *answers) get(key answerKey, now time.Time) (kept *listAnswer, clears int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.second == now.Unix() {
		kept = a.by[key]
	}
	return kept, a.clears
}

// put keeps an answer that was made at a time, unless clear was called since get.
func (a *answers) put(key answerKey, now time.Time, made *listAnswer, clears int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if clears != a.clears {
		return
	}
	if now.Unix() != a.second {
		a.second, a.by, a.bytes = now.Unix(), map[answerKey]*listAnswer{}, 0
	}
	if before := a.by[key]; before != nil {
		a.bytes -= len(before.body)
		delete(a.by, key)
	}
	if a.bytes+len(made.body) <= maxAnswers {
		a.by[key] = made
		a.bytes += len(made.body)
	}
}

// clear drops all answers, as when an account's names must not be shown any more.
func (a *answers) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.by, a.bytes, a.clears = map[answerKey]*listAnswer{}, 0, a.clears+1
}

// stillTrue reports whether an answer is what a new one would be, but for what machines reported of their use within the second.
func (s *Server) stillTrue(ctx context.Context, account string, kept *listAnswer) bool {
	if latest, err := s.glances.at(ctx, account); err != nil || latest > kept.at {
		return false
	}
	for _, was := range kept.live {
		if now, err := s.aliveNow(ctx, was.id, was.ask); err != nil || now != was {
			return false
		}
	}
	return true
}

// running returns those whose machine may run.
func running(all []live) []live {
	return slices.DeleteFunc(all, func(l live) bool { return l.gone })
}

// alive returns what this process knows of instances. After an error it asks for no other machine: the read model counts.
func (s *Server) alive(ctx context.Context, list []projections.Instance) (all []live, err error) {
	all = make([]live, len(list))
	for n := range list {
		i := &list[n]
		now, failed := s.aliveNow(ctx, i.ID, err == nil && s.cfg.Silent != nil && i.Ready())
		now.gone = i.Status == instance.Stopped || i.Status == instance.StatusTerminated || i.Status == instance.StatusFailed
		if all[n] = now; failed != nil {
			err = failed
		}
	}
	return all, err
}

// aliveNow returns what this process knows of an instance; with ask, also whether its machine responds.
func (s *Server) aliveNow(ctx context.Context, id string, ask bool) (now live, err error) {
	now = live{id: id, ask: ask}
	if s.cfg.AgentState != nil {
		now.agent = s.cfg.AgentState(id)
	}
	if ask {
		now.since, now.silent, err = s.cfg.Silent(ctx, id)
		now.silent = now.silent && err == nil
	}
	return now, err
}

// Forget drops what is kept of an account whose data key was deleted. It is safe on a nil Server, which keeps nothing.
func (s *Server) Forget(string) {
	if s != nil {
		s.answers.clear()
	}
}
