package httpapi

import (
	"context"
	"fmt"
	"sync"
)

// maxKnown bounds the sessions in each of the two generations.
const maxKnown = 50_000

// sessionCache remembers which sessions the log has, so that each is looked up once and not for every request.
type sessionCache struct {
	has func(ctx context.Context, account, session string) (bool, error)

	mu         sync.Mutex
	young, old map[string]struct{} // by account and session; a used session moves to young
	life       int                 // how often the cache was cleared
}

func (k *sessionCache) check(ctx context.Context, account, session string) (bool, error) {
	key := account + " " + session
	k.mu.Lock()
	_, yes := k.young[key]
	if !yes {
		if _, yes = k.old[key]; yes {
			k.add(key)
		}
	}
	life := k.life
	k.mu.Unlock()
	if yes {
		return true, nil
	}
	yes, err := k.has(ctx, account, session)
	if err != nil {
		return false, fmt.Errorf("look up session: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if yes && life == k.life {
		k.add(key)
	}
	return yes, nil
}

// add adds a session. The caller holds mu.
func (k *sessionCache) add(key string) {
	if len(k.young) >= maxKnown {
		k.old, k.young = k.young, nil
	}
	if k.young == nil {
		k.young = map[string]struct{}{}
	}
	k.young[key] = struct{}{}
}

func (k *sessionCache) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.young, k.old, k.life = nil, nil, k.life+1
}

// LogChanged looks up again what is remembered of the log, as after the restore of an older backup. Open
// connections of sessions, accounts and instances that the log does not have are closed.
func (s *Server) LogChanged(ctx context.Context) error {
	s.inLog.forget()
	s.answers.clear()
	s.sessions.rewound()
	for _, w := range s.sessions.watched() { // session and account
		switch yes, err := s.inLog.check(ctx, w.ids[1], w.ids[0]); {
		case err != nil:
			return err
		case !yes:
			w.close()
		}
	}
	for _, w := range s.gone.watched() {
		switch yes, err := s.cfg.Instances.Known(ctx, w.ids[0]); {
		case err != nil:
			return fmt.Errorf("look up instance: %w", err)
		case !yes:
			w.close()
		}
	}
	return nil
}
