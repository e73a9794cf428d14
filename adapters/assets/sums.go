package assets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"sync"

	"github.com/cloudbot-ai/control-plane/crash"
)

// sums remembers each asset's sum until its content changes.
type sums struct {
	mu    sync.Mutex
	known map[string]*sum // by name
}

type sum struct {
	tag  string
	done chan struct{}
	hex  string
	err  error
}

// of returns an asset's sum. The first call reads the asset; concurrent calls wait for that.
func (s *sums) of(ctx context.Context, source Source, name string, info Info) (string, error) {
	s.mu.Lock()
	if s.known == nil {
		s.known = map[string]*sum{}
	}
	k := s.known[name]
	if k == nil || k.tag != info.Tag {
		k = &sum{tag: info.Tag, done: make(chan struct{})}
		s.known[name] = k
		go s.read(context.WithoutCancel(ctx), k, source, name, info)
	}
	s.mu.Unlock()
	select {
	case <-k.done:
		return k.hex, k.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (s *sums) read(ctx context.Context, k *sum, source Source, name string, info Info) {
	ctx, cancel := context.WithTimeout(ctx, sumTime)
	defer cancel()
	k.hex, k.err = digest(ctx, source, name, info)
	if k.err != nil { // the next call tries again
		s.mu.Lock()
		if s.known[name] == k {
			delete(s.known, name)
		}
		s.mu.Unlock()
	}
	close(k.done)
}

func digest(ctx context.Context, source Source, name string, info Info) (_ string, err error) {
	defer crash.Caught(&err)
	r, err := source.Open(ctx, name, info.Tag, 0)
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return "", fmt.Errorf("read %s for its sha256: %w", name, err)
	}
	if n != info.Size {
		return "", fmt.Errorf("read %s for its sha256: %w", name, errChanged)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
