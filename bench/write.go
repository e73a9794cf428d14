package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// benchWrite measures what a write waits for its own readers: POSTs of a key that answer once the read
// models have them, in turn with the same POST under "Prefer: respond-async", on the server's program. Before, it counts
// the flushes of lone ones.
func benchWrite(ctx context.Context, l *lab, _ options) error {
	return inServer(ctx, l, func(s *server) error {
		if err := s.benchFlushes(ctx, l); err != nil {
			return err
		}
		return s.benchWrite(ctx)
	})
}

func (s *server) benchWrite(ctx context.Context) error {
	fmt.Printf("\n| POST /api/user/api-keys | at once, p50 | p99 | once it can be read, p50 | p99 | added, p50 |\n|---|---:|---:|---:|---:|---:|\n")
	for _, callers := range []int{1, 8} {
		var mu sync.Mutex
		took := map[string][]time.Duration{}
		var wg sync.WaitGroup
		failed := make(chan error, callers)
		for n := range callers {
			one := *s
			if err := one.signUp(ctx, fmt.Sprintf("writer-%d-%d@example.com", callers, n)); err != nil {
				return err
			}
			wg.Go(func() {
				for i := range 250 {
					for _, prefer := range []string{"", "respond-async"} {
						began := time.Now()
						if err := one.store(ctx, i, prefer); err != nil {
							failed <- err
							return
						}
						if i >= 10 { // the first writes warm up what a running server has warm
							mu.Lock()
							took[prefer] = append(took[prefer], time.Since(began))
							mu.Unlock()
						}
					}
				}
			})
		}
		wg.Wait()
		select {
		case err := <-failed:
			return err
		default:
		}
		for _, list := range took {
			slices.Sort(list)
		}
		ms := func(prefer string, percent int) float64 {
			return float64(took[prefer][len(took[prefer])*percent/100].Microseconds()) / 1e3
		}
		fmt.Printf("| %d callers | %.1f ms | %.1f ms | %.1f ms | %.1f ms | %.1f ms |\n", callers,
			ms("respond-async", 50), ms("respond-async", 99), ms("", 50), ms("", 99), ms("", 50)-ms("respond-async", 50))
	}
	return nil
}

// store writes an API key.
func (s *server) store(ctx context.Context, n int, prefer string) error {
	body := fmt.Sprintf(`{"provider":"openai","api_key":"sk-0123456789abcdef%04d"}`, n)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/user/api-keys", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Prefer", prefer)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if behind := res.Header.Get("Cloudbot-Behind"); res.StatusCode != http.StatusCreated || behind != "" {
		return fmt.Errorf("store a key: status %d, behind %q", res.StatusCode, behind)
	}
	return nil
}
