package mux

import "sync"

// chunkSize is the unit of what a stream holds for its reader. Small frames share a chunk, so what arrives in pieces of one
// byte takes no more memory than its bytes.
const chunkSize = 32 << 10

type chunk [chunkSize]byte

var chunkPool = sync.Pool{New: func() any { return new(chunk) }}

// buffer is a queue of bytes. One goroutine fills it, others read; the stream's lock guards all but the bytes that are being
// filled.
type buffer struct {
	chunks  []*chunk
	read    int // offset in the first chunk
	write   int // offset in the last chunk
	size    int
	filling bool // the last chunk is being written: it must stay
}

// space returns room for at most n bytes at the end. Call commit when they are written.
func (b *buffer) space(n int) []byte {
	if len(b.chunks) == 0 || b.write == chunkSize {
		b.chunks = append(b.chunks, chunkPool.Get().(*chunk))
		b.write = 0
		if len(b.chunks) == 1 {
			b.read = 0
		}
	}
	b.filling = true
	last := b.chunks[len(b.chunks)-1]
	return last[b.write:min(chunkSize, b.write+n)]
}

func (b *buffer) commit(n int) {
	b.filling = false
	b.write += n
	b.size += n
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
		if b.read == chunkSize || b.size == 0 && !b.filling {
			b.drop()
		}
	}
	return n
}

// drop frees the first chunk, unless it is being written.
func (b *buffer) drop() {
	if len(b.chunks) == 1 && b.filling {
		return
	}
	chunkPool.Put(b.chunks[0])
	b.chunks[0] = nil
	b.chunks, b.read = b.chunks[1:], 0
	if len(b.chunks) == 0 {
		b.chunks, b.write = nil, 0
	}
}

// clear frees everything but a chunk that is being written.
func (b *buffer) clear() {
	for len(b.chunks) > 1 || len(b.chunks) == 1 && !b.filling {
		b.drop()
	}
	b.size = 0
	if b.filling {
		b.read = b.write
	}
}
