package gate

// pressed holds what clients press: keys and buttons by their numbers.
type pressed struct {
	keys, buttons [256]bool
}

// note follows an event of XTEST.
func (p *pressed) note(event, detail byte) {
	switch event {
	case keyPress:
		p.keys[detail] = true
	case keyRelease:
		p.keys[detail] = false
	case buttonPress:
		p.buttons[detail] = true
	case buttonRel:
		p.buttons[detail] = false
	}
}

// releases returns the events that release everything, as pairs of event and detail.
func (p *pressed) releases() (list [][2]byte) {
	for n := range 256 {
		if p.buttons[n] {
			list = append(list, [2]byte{buttonRel, byte(n)})
		}
		if p.keys[n] {
			list = append(list, [2]byte{keyRelease, byte(n)})
		}
	}
	return list
}

// refuses reports whether input is refused now; g.input is read-locked.
func (g *Gate) refuses() bool {
	if g.c.File != nil { // follow is later
		return g.c.File.Left() > 0
	}
	return g.Held() > 0
}

// note follows an event that a client creates.
func (g *Gate) note(event, detail byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pressed.note(event, detail)
}

// presses reports whether clients keep anything pressed. It does not wait for a server that does not answer.
func (g *Gate) presses() bool {
	if !g.mu.TryLock() {
		return false
	}
	defer g.mu.Unlock()
	return g.pressed != pressed{}
}

// keys returns the events that release what clients press, and forgets it.
func (g *Gate) keys() [][2]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := g.pressed.releases()
	g.pressed = pressed{}
	return list
}

// release sends the events over the gate's own connection.
func (g *Gate) release(list [][2]byte) error {
	if len(list) == 0 {
		return nil
	}
	s, err := g.own()
	if err != nil {
		return err
	}
	// The server may have read none of the clients' last requests yet. It looks at all connections between two of ours.
	for range 2 {
		if err := s.sync(); err != nil {
			return err
		}
	}
	for _, e := range list {
		if err := s.fake(e[0], e[1]); err != nil {
			return err
		}
	}
	return s.sync()
}
