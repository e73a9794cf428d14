package httpapi

import "sync"

// Epoch is the number of the log's present life: a log that was restored from an older backup begins
// another, in which positions may stand for other events.
type Epoch struct {
	mu     sync.Mutex
	n      int
	turned chan struct{} // closed and replaced at every change
}

// NewEpoch makes an Epoch that stands at n.
func NewEpoch(n int) *Epoch { return &Epoch{n: n, turned: make(chan struct{})} }

// Now returns the present epoch and a channel that is closed when another has begun.
func (e *Epoch) Now() (n int, turned <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n, e.turned
}

// Set notes which epoch is the present one. Call Server.LogChanged first: streams go on with what the log has.
func (e *Epoch) Set(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n != e.n {
		e.n = n
		close(e.turned)
		e.turned = make(chan struct{})
	}
}
