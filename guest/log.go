package guest

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

const (
	ringBytes   = 256 << 10 // of log kept for the owner to read
	partialLine = 8 << 10   // bytes of a line without an end that are waited for
)

// Log takes lines from the guest and its programs, cleans them, and gives them to a writer, a ring
// in memory, and the tunnel.
type Log struct {
	redact *Redactor
	out    io.Writer

	mu     sync.Mutex
	lines  []string
	size   int
	feed   func(line string) // nil: nobody listens
	second time.Time
	sent   int // lines given to feed in this second
}

// NewLog returns a log that also writes to out.
func NewLog(out io.Writer, r *Redactor) *Log { return &Log{redact: r, out: out} }

func (l *Log) line(text string) {
	text = l.redact.Clean(strings.ToValidUTF8(strings.TrimRight(text, "\r"), "?"))
	if len(text) > wire.MaxLogLine {
		text = strings.ToValidUTF8(text[:wire.MaxLogLine], "")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(l.out, text+"\n")
	l.lines = append(l.lines, text)
	for l.size += len(text) + 1; l.size > ringBytes; l.lines = l.lines[1:] {
		l.size -= len(l.lines[0]) + 1
	}
	if l.feed == nil {
		return
	}
	if now := time.Now().Truncate(time.Second); now != l.second {
		l.second, l.sent = now, 0
	}
	if l.sent++; l.sent <= wire.LogsPerSecond {
		l.feed(text)
	}
}

// Text is what the ring holds.
func (l *Log) Text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n") + "\n"
}

// Feed sets who gets the lines from now on; f must not block and must not log.
func (l *Log) Feed(f func(line string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.feed = f
}

// Writer returns a writer of lines, each put behind prefix. One source each: a half line waits for
// its rest, so that a secret cut in two by the pipe is still found.
func (l *Log) Writer(prefix string) io.Writer { return &lineWriter{log: l, prefix: prefix} }

type lineWriter struct {
	log    *Log
	prefix string
	mu     sync.Mutex
	rest   []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			break
		}
		w.log.line(w.prefix + string(w.rest[:i]))
		w.rest = w.rest[i+1:]
	}
	if len(w.rest) > partialLine {
		w.log.line(w.prefix + string(w.rest))
		w.rest = nil
	}
	return len(p), nil
}
