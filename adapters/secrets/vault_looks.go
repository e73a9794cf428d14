package secrets

import (
	"errors"
	"sync"
)

// errLookEnded is the outcome of a look whose caller did not see its end.
var errLookEnded = errors.New("the query for a data key did not end")

// looks are the queries for data keys that run at present. The zero value is ready to use.
type looks struct {
	mu sync.Mutex
	by map[string]*look
}

// look is a query for one key. Its results may be read once done is closed.
type look struct {
	generation uint64 // of the cache when it began: a look from before a drop is not joined after it
	done       chan struct{}
	key        *dataKey
	err        error
	abandoned  bool // the caller left or panicked
}

// join returns the look for an account that runs, or begins one: then the caller does it and calls leave.
func (l *looks) join(account string, generation uint64) (_ *look, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if running := l.by[account]; running != nil && running.generation == generation {
		return running, false
	}
	if l.by == nil {
		l.by = map[string]*look{}
	}
	begun := &look{generation: generation, done: make(chan struct{})}
	l.by[account] = begun
	return begun, true
}

// leave ends a look.
func (l *looks) leave(account string, ended *look) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[account] == ended {
		delete(l.by, account)
	}
	close(ended.done)
}
