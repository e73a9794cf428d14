package postgres

import "sync"

// known remembers how far streams are known to reach. Versions only grow, so an entry is a lower
// bound of the truth for as long as the log is the same one: forget drops everything when a
// connection was lost, because the log may have been restored from a backup in between.
//
// It keeps two maps of at most half its size. What is used moves to the young one; when that is
// full, the old one goes. This is as good as a list in order of use and touches no list.
type known struct {
	mu         sync.Mutex
	young, old map[string]int64
	half       int
	gen        uint64
}

func newKnown(size int) *known {
	return &known{young: map[string]int64{}, half: max(size/2, 1)}
}

// generation names the log's present life. A put that began in an earlier one is ignored.
func (k *known) generation() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gen
}

func (k *known) get(stream string) (int64, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.look(stream)
}

// look needs the lock.
func (k *known) look(stream string) (int64, bool) {
	v, ok := k.young[stream]
	if !ok {
		if v, ok = k.old[stream]; ok {
			k.set(stream, v)
		}
	}
	return v, ok
}

// put notes that the stream has reached the version. Nothing is learnt from version 0.
func (k *known) put(generation uint64, stream string, version int64) {
	if version == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gen != generation {
		return
	}
	if at, ok := k.look(stream); !ok || at < version {
		k.set(stream, version)
	}
}

func (k *known) set(stream string, version int64) {
	if len(k.young) >= k.half {
		k.old, k.young = k.young, make(map[string]int64, k.half)
	}
	k.young[stream] = version
}

func (k *known) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.young, k.old = map[string]int64{}, nil
	k.gen++
}
