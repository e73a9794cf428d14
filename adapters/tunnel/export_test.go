package tunnel

// Connected reports whether this replica holds the machine's tunnel and may open streams on it.
func (h *Hub) Connected(instanceID string) bool {
	t := h.local(instanceID)
	return t != nil && t.greeted()
}
