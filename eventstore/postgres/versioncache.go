package postgres

import "sync"

// versionCache holds the latest version of streams that the store has seen. Versions only grow, so an entry
// is a lower bound for as long as the log is the same one. forget drops everything when a connection was
// lost, because the log may have been restored from a backup in between.
//
// It keeps two maps of at most half its size. An entry that is used moves to the young map; when that is
// full, the old map is dropped. This works as well as a list in order of use, without the list.
type versionCache struct {
	mu         sync.Mutex
	young, old map[string]int64
	half       int
	gen        uint64
}

func newVersionCache(size int) *versionCache {
	return &versionCache{young: map[string]int64{}, half: max(size/2, 1)}
}

// generation changes with every forget. A put that began in an earlier generation is ignored.
func (c *versionCache) generation() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gen
}

func (c *versionCache) get(stream string) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.look(stream)
}

// look is get for callers that hold the lock.
func (c *versionCache) look(stream string) (int64, bool) {
	v, ok := c.young[stream]
	if !ok {
		if v, ok = c.old[stream]; ok {
			c.set(stream, v)
		}
	}
	return v, ok
}

// put notes that the stream has reached the version. It ignores version 0.
func (c *versionCache) put(generation uint64, stream string, version int64) {
	if version == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen != generation {
		return
	}
	if at, ok := c.look(stream); !ok || at < version {
		c.set(stream, version)
	}
}

func (c *versionCache) set(stream string, version int64) {
	if len(c.young) >= c.half {
		c.old, c.young = c.young, make(map[string]int64, c.half)
	}
	c.young[stream] = version
}

func (c *versionCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old = map[string]int64{}, nil
	c.gen++
}
