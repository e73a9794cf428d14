package bridge

// LargeFrames returns how many large frames are held.
func (b *Bridge) LargeFrames() int {
	n, _ := b.large.places.Used()
	return n
}
