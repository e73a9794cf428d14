package mux

import "sync"

// chunkSize is the unit of what a stream holds for its reader. Small frames share a chunk, so what arrives in pieces of one
// byte takes no more memory than its bytes.
const chunkSize = 32 << 10

type chunk [chunkSize]byte

var chunkPool = sync.Pool{New: func() any { return new(chunk) }}

// buffer is a queue of bytes. The stream's lock guards it.
type buffer struct {
	chunks []*chunk
	read   int // offset in the first chunk
	write  int // offset in the last chunk
	size   int
}

// put copies p to the end.
func (b *buffer) put(p []byte) {
	for len(p) > 0 {
		if len(b.chunks) == 0 || b.write == chunkSize {
			b.chunks = append(b.chunks, chunkPool.Get().(*chunk))
			b.write = 0
		}
		n := copy(b.chunks[len(b.chunks)-1][b.write:], p)
		p, b.write, b.size = p[n:], b.write+n, b.size+n
	}
}

// take copies what there is to p and frees what was read.
func (b *buffer) take(p []byte) (n int) {
	for n < len(p) && b.size > 0 {
		end := chunkSize
		if len(b.chunks) == 1 {
			end = b.write
		}
		m := copy(p[n:], b.chunks[0][b.read:end])
		n, b.read, b.size = n+m, b.read+m, b.size-m
		if b.read == chunkSize || b.size == 0 {
			b.drop()
		}
	}
	return n
}

// drop frees the first chunk.
func (b *buffer) drop() {
	chunkPool.Put(b.chunks[0])
	b.chunks[0] = nil
	b.chunks, b.read = b.chunks[1:], 0
	if len(b.chunks) == 0 {
		b.chunks, b.write = nil, 0
	}
}

// clear frees everything.
func (b *buffer) clear() {
	for len(b.chunks) > 0 {
		b.drop()
	}
	b.size = 0
}
