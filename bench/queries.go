package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/adapters/lease"
)

// Bars of a list: its rate as a share of a bare handler's, and with a cold key cache as a share of the warm rate.
const (
	listBar = 0.5
	coldBar = 0.8
)

// benchQueries measures GET /api/instances on the server's program beside a bare Echo handler that returns the same bytes.
func benchQueries(ctx context.Context, l *lab, o options) error {
	dir, err := os.MkdirTemp("", "cloudbot-bench-queries-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	warm := 64
	members, err := seed(ctx, l, dir, warm+coldAccounts*(o.runs+1), o.rows)
	if err != nil {
		return err
	}
	if _, err := l.pool.Exec(ctx, `VACUUM (ANALYZE) read.instances, read.idle, read.usage_intervals`); err != nil {
		return err
	}
	// The roles that act on desktops would find no events of these.
	leases := lease.New(lease.Config{Pool: l.pool})
	held, release := context.WithCancel(ctx)
	var roles sync.WaitGroup
	defer roles.Wait()
	defer release()
	for _, name := range []string{"saga", "keeper"} {
		roles.Go(func() {
			_ = leases.Hold(held, name, func(ctx context.Context) error { <-ctx.Done(); return nil })
		})
	}
	cloud := httptest.NewServer(ec2test.New(ec2test.Config{Seed: 1}))
	defer cloud.Close()
	s, err := startServer(ctx, dir, l, cloud.URL)
	if err != nil {
		return err
	}
	defer s.stop()
	return s.benchQueries(ctx, l, members, warm, o)
}

func (s *server) benchQueries(ctx context.Context, l *lab, members []member, warm int, o options) error {
	list := s.url + "/api/instances?limit=" + fmt.Sprint(listed)
	body, err := fetch(ctx, list, members[0].token)
	if err != nil {
		return err
	}
	file := filepath.Join(s.cmd.Dir, "answer.json")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return err
	}
	bare, err := start(ctx, "echo", file)
	if err != nil {
		return err
	}
	defer bare.stop()
	fmt.Printf("\nGET /api/instances, %d rows an answer (%d bytes), %d rows in the table\n", listed, len(body), o.rows)
	fmt.Printf("\n| callers | bare Echo/s | list/s | ratio | bar | p50 | p99 | CPU of the server | transactions a list | not 200 |\n|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|\n")
	for _, callers := range []int{16, 64} {
		if !slices.Contains(o.callers, callers) {
			continue
		}
		var reference, ours []float64
		var last listLoad
		for range o.runs {
			r, err := drive(ctx, bare.URL, members[:callers], callers, o.length)
			if err != nil {
				return err
			}
			cpu, transactions, err := s.while(ctx, l, func() error {
				last, err = drive(ctx, list, members[:callers], callers, o.length)
				return err
			})
			if err != nil {
				return err
			}
			last.cpu, last.transactions = cpu/time.Duration(len(last.took)+1), transactions/float64(len(last.took)+1)
			reference, ours = append(reference, r.rate()), append(ours, last.rate())
		}
		ratio := median(ours) / median(reference)
		fmt.Printf("| %d | %.0f | %.0f | **%.2f** | %.1f, %s | %.2f ms | %.2f ms | %d µs | %.2f | %d |\n", callers, median(reference), median(ours), ratio,
			listBar, verdict(ratio >= listBar), last.ms(50), last.ms(99), last.cpu.Microseconds(), last.transactions, last.failed)
	}
	if err := s.benchCold(ctx, list, members[warm:], o); err != nil {
		return err
	}
	return s.benchUncached(ctx, l, bare.URL, list, members[warm:], o)
}

// benchCold lets 256 callers ask for 2,000 accounts whose sessions and data keys this process has not used yet, and then for
// the same accounts again.
func (s *server) benchCold(ctx context.Context, list string, members []member, o options) error {
	const callers = 256
	if !slices.Contains(o.callers, callers) {
		return nil
	}
	// The first accounts open the server's connections, and are not counted.
	if _, err := drive(ctx, list, members[:coldAccounts], callers, 0); err != nil {
		return err
	}
	var cold, warm []float64
	failed, busy := 0, 0
	for n := 1; n <= o.runs; n++ {
		some := members[n*coldAccounts : (n+1)*coldAccounts]
		c, err := drive(ctx, list, some, callers, 0)
		if err != nil {
			return err
		}
		w, err := drive(ctx, list, some, callers, o.length)
		if err != nil {
			return err
		}
		cold, warm = append(cold, c.rate()), append(warm, w.rate())
		failed, busy = failed+c.failed+w.failed, busy+c.busy+w.busy
	}
	ratio := median(cold) / median(warm)
	fmt.Printf("\n| callers | accounts | cold/s | warm/s | ratio | bar | 503 | not 200 |\n|---:|---:|---:|---:|---:|---|---:|---:|\n")
	fmt.Printf("| %d | %d | %.0f | %.0f | **%.2f** | %.1f, %s | %d | %d |\n", callers, coldAccounts, median(cold), median(warm), ratio, coldBar, verdict(ratio >= coldBar), busy, failed)
	return nil
}

// serveEcho answers every request with a file's bytes.
func serveEcho(ctx context.Context, file string) error {
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	e := echo.New()
	e.GET("/*", func(c echo.Context) error { return c.JSONBlob(http.StatusOK, body) })
	return serveHTTP(ctx, e)
}

// listLoad is what callers measured.
type listLoad struct {
	took         []time.Duration
	length       time.Duration
	failed, busy int           // answers other than 200, and those of them that are 503
	cpu          time.Duration // of the server, a request
	transactions float64       // of the database, a request
}

func (l listLoad) rate() float64 { return float64(len(l.took)-l.failed) / l.length.Seconds() }

func (l listLoad) ms(percent int) float64 {
	return float64(l.took[len(l.took)*percent/100].Microseconds()) / 1e3
}

// drive lets callers ask for the members' lists, each caller for its share of the members in turn: for a time, or once for each
// member if length is 0.
func drive(ctx context.Context, url string, members []member, callers int, length time.Duration) (listLoad, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	var (
		mu    sync.Mutex
		all   listLoad
		first error
		wg    sync.WaitGroup
		next  atomic.Int64
	)
	began := time.Now()
	for caller := range callers {
		wg.Go(func() {
			var mine listLoad
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				all.took, all.failed, all.busy = append(all.took, mine.took...), all.failed+mine.failed, all.busy+mine.busy
			}()
			for ctx.Err() == nil && (length == 0 || time.Since(began) < length) {
				n := int(next.Add(1)) - 1
				if length == 0 && n >= len(members) {
					return
				}
				asked := time.Now()
				status, err := ask(ctx, client, url, members[n%len(members)].token, caller)
				if err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
					return
				}
				if mine.took = append(mine.took, time.Since(asked)); status != http.StatusOK {
					mine.failed++
				}
				if status == http.StatusServiceUnavailable {
					mine.busy++
				}
			}
		})
	}
	wg.Wait()
	all.length = time.Since(began)
	slices.Sort(all.took)
	return all, first
}

// ask sends one request, as if from an address of the caller's own.
func ask(ctx context.Context, client *http.Client, url, token string, caller int) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("X-Forwarded-For", fmt.Sprintf("203.0.%d.7", caller))
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

func fetch(ctx context.Context, url, token string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", url, res.Status, body)
	}
	return body, err
}
