package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	firstDial = 250 * time.Millisecond
	lastDial  = 2 * time.Second

	linesPerSecond = 200  // lines of a machine's log that are forwarded
	linesAtOnce    = 4096 // as many lines as a guest keeps: the log from before the stream opened
	saidPerSecond  = 20   // steps of the boot
	readPerSecond  = 1000 // lines read in total; the rest waits on the machine

	maxDetail = 300 // bytes of a phase's detail
)

// ask sends a GET to the diagnostics server of the instance's guest. It accepts only status 200 and follows no
// redirect. The content is the machine's and must not be trusted.
func (s *Server) ask(ctx context.Context, id, path string) (*http.Response, error) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := s.cfg.Diagnostics.Dial(ctx, id)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errNoMachine, err)
			}
			return conn, nil
		},
		DisableKeepAlives:      true,
		DisableCompression:     true, // a small answer must not grow here
		MaxResponseHeaderBytes: 16 << 10,
		ResponseHeaderTimeout:  diagnosticTime,
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://guest"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := transport.RoundTrip(request) // not a Client: that would follow redirects
	switch {
	case errors.Is(err, errNoMachine):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errMachine, err)
	case answer.StatusCode != http.StatusOK:
		answer.Body.Close()
		return nil, fmt.Errorf("%w: status %d", errMachine, answer.StatusCode)
	}
	return answer, nil
}

// word is an event of a boot stream; without an id, a client cannot resume after it.
type word struct {
	id, event string
	data      any
}

type progressView struct {
	Phase    string    `json:"phase"`
	Detail   string    `json:"detail"`
	Progress int       `json:"progress"`
	At       time.Time `json:"at"`
}

type lineView struct {
	Seq   int64     `json:"seq"`
	At    time.Time `json:"at"`
	Phase string    `json:"phase"`
	Text  string    `json:"text"`
}

// machine follows one machine for one reader, over any number of connections.
type machine struct {
	s       *Server
	id      string
	words   chan word
	skipped atomic.Int64 // lines left out and not reported yet

	wake              chan struct{} // holds a value when the machine should be dialled now
	from              wire.Place    // after the last line that was read
	lines, said, read *rate.Limiter
}

func newMachine(s *Server, id string, from wire.Place) *machine {
	return &machine{
		s: s, id: id, from: from, words: make(chan word), wake: make(chan struct{}, 1),
		lines: rate.NewLimiter(linesPerSecond, linesAtOnce), said: rate.NewLimiter(saidPerSecond, 10*saidPerSecond),
		read: rate.NewLimiter(readPerSecond, 2*linesAtOnce),
	}
}

// changed wakes run: the instance changed, so its machine may be connected now.
func (m *machine) changed() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run listens to the machine until ctx ends, and sends "waiting" while the machine is not connected.
func (m *machine) run(ctx context.Context) {
	pause, waiting := retry.Backoff{First: firstDial, Max: lastDial}, false
	for {
		began := time.Now()
		if m.listen(ctx) {
			waiting = false
		}
		if time.Since(began) > lastDial {
			pause.Reset()
		}
		if !waiting && !m.say(ctx, word{event: "waiting", data: struct{}{}}) {
			return
		}
		waiting = true
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause.Next()):
		case <-m.wake:
		}
	}
}

func (m *machine) say(ctx context.Context, w word) bool {
	select {
	case m.words <- w:
		return true
	case <-ctx.Done():
		return false
	}
}

// listen forwards what the machine sends on one connection. It reports whether a machine answered.
func (m *machine) listen(ctx context.Context) bool {
	answer, err := m.s.ask(ctx, m.id, wire.FollowPath+"?after="+m.from.String())
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	r := bufio.NewReaderSize(answer.Body, wire.MaxFollow)
	met := false
	for rest := false; m.read.Wait(ctx) == nil; {
		line, err := r.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !long {
			return met
		}
		var f wire.Follow // stays empty for an invalid line, and for each piece of a line that is too long
		if long || rest || json.Unmarshal(line, &f) != nil {
			f = wire.Follow{}
		}
		rest = long
		switch {
		case !met:
			if !wire.Word(f.Boot) {
				return false
			}
			if met = true; f.Boot != m.from.Boot {
				m.from = wire.Place{Boot: f.Boot}
			}
		case f.Phase != nil:
			m.phase(ctx, *f.Phase)
		case f.Line != nil:
			m.line(ctx, *f.Line)
		}
	}
	return met
}

func (m *machine) phase(ctx context.Context, p wire.Phase) {
	if instance.Phase(p.Phase).Rank() < 0 || !m.said.Allow() {
		return
	}
	m.say(ctx, word{"", "progress", progressView{p.Phase, clip(p.Detail, maxDetail), min(max(p.Progress, 0), 100), m.s.when(p.At)}})
}

func (m *machine) line(ctx context.Context, l wire.Line) {
	if instance.Phase(l.Phase).Rank() < 0 || l.Seq <= m.from.Seq {
		return
	}
	m.from.Seq = l.Seq
	if !m.lines.Allow() {
		m.skipped.Add(1)
		return
	}
	m.say(ctx, word{m.from.String(), "line", lineView{l.Seq, m.s.when(l.At), l.Phase, clip(l.Text, wire.MaxLogLine)}})
}

// when returns a machine's time, or the server's if the machine's is implausible.
func (s *Server) when(at time.Time) time.Time {
	if now := s.cfg.Now(); at.Before(now.AddDate(-1, 0, 0)) || at.After(now.AddDate(1, 0, 0)) {
		return now
	}
	return at.UTC()
}

func clip(text string, n int) string {
	return strings.ToValidUTF8(text[:min(len(text), n)], "")
}
