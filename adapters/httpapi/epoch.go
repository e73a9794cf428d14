package httpapi

import "sync"

// Epoch is the number of the log's current epoch. A log that was restored from an older backup begins a new
// epoch, in which positions may stand for other events.
type Epoch struct {
	mu     sync.Mutex
	n      int
	turned chan struct{} // closed and replaced at every change
}

// NewEpoch returns an Epoch with the number n.
func NewEpoch(n int) *Epoch { return &Epoch{n: n, turned: make(chan struct{})} }

// Now returns the current epoch and a channel that is closed when the next one begins.
func (e *Epoch) Now() (n int, turned <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n, e.turned
}

// Set changes the current epoch. Call Server.LogChanged first: streams then continue with the new log.
func (e *Epoch) Set(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n != e.n {
		e.n = n
		close(e.turned)
		e.turned = make(chan struct{})
	}
}
