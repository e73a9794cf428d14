package main

// closers is a stack of what was opened and must be closed.
type closers []func()

func (c *closers) add(f func()) { *c = append(*c, f) }

// close closes everything in reverse order, because each may use what was opened before it.
func (c *closers) close() {
	for i := len(*c) - 1; i >= 0; i-- {
		(*c)[i]()
	}
	*c = nil
}
