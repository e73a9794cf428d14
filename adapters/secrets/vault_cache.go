package secrets

import (
	"container/list"
	"sync"
	"time"
)

const (
	cacheFor  = time.Minute
	cacheSize = 1024
)

// keyCache keeps the data keys that were used last, for a minute. So long may another replica still open data
// that was erased here.
type keyCache struct {
	mu     sync.Mutex
	byName map[string]*list.Element
	recent *list.List // of *cached, the latest used first
	drops  uint64
	now    func() time.Time
}

type cached struct {
	account string
	key     *dataKey
	until   time.Time
}

func newKeyCache() *keyCache {
	return &keyCache{byName: map[string]*list.Element{}, recent: list.New(), now: time.Now}
}

func (c *keyCache) get(account string) *dataKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byName[account]
	if !ok {
		return nil
	}
	hit := e.Value.(*cached)
	if left := hit.until.Sub(c.now()); left <= 0 || left > cacheFor { // the latter: the clock went back
		c.remove(e)
		return nil
	}
	c.recent.MoveToFront(e)
	return hit.key
}

// generation changes with every drop. A key that was read before a drop must not be cached after it.
func (c *keyCache) generation() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drops
}

func (c *keyCache) put(account string, key *dataKey, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.drops {
		return
	}
	if e, ok := c.byName[account]; ok {
		c.remove(e)
	}
	c.byName[account] = c.recent.PushFront(&cached{account, key, c.now().Add(cacheFor)})
	if c.recent.Len() > cacheSize {
		c.remove(c.recent.Back())
	}
}

func (c *keyCache) drop(account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	if e, ok := c.byName[account]; ok {
		c.remove(e)
	}
}

func (c *keyCache) remove(e *list.Element) {
	c.recent.Remove(e)
	delete(c.byName, e.Value.(*cached).account)
}
