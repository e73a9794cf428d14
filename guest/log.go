package guest

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

const (
	ringBytes   = 256 << 10 // of log kept in memory for the owner
	lineBytes   = 64        // overhead of a line, in addition to its text
	partialLine = 8 << 10   // most bytes of an incomplete line that are held back
)

// Log receives lines from the guest and its programs, removes secrets, and passes them to a writer and a ring in
// memory.
type Log struct {
	redact *Redactor
	out    io.Writer
	phase  func() string

	mu    sync.Mutex
	lines []wire.Line // numbered without gaps
	size  int
	last  int64         // number of the latest line
	more  chan struct{} // closed at the next line
}

// NewLog returns a log that also writes to out; phase returns the current phase of the boot.
func NewLog(out io.Writer, r *Redactor, phase func() string) *Log {
	return &Log{redact: r, out: out, phase: phase, last: microsUp(), more: make(chan struct{})}
}

// microsUp returns the kernel's uptime. Lines are numbered from it, so that a guest restarted within a boot continues
// above the numbers it used before.
func microsUp() int64 {
	up, _, _ := strings.Cut(read("/proc/uptime"), " ")
	seconds, _ := strconv.ParseFloat(up, 64)
	return int64(seconds * 1e6)
}

func (l *Log) line(text string) {
	text = cut(l.redact.Clean(strings.ToValidUTF8(strings.TrimRight(text, "\r"), "?")))
	phase := l.phase()
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = io.WriteString(l.out, text+"\n")
	l.last++
	l.lines = append(l.lines, wire.Line{Seq: l.last, At: time.Now().UTC(), Phase: phase, Text: text})
	for l.size += len(text) + lineBytes; l.size > ringBytes; l.lines = l.lines[1:] {
		l.size -= len(l.lines[0].Text) + lineBytes
	}
	close(l.more)
	l.more = make(chan struct{})
}

// cut shortens text to the longest line allowed.
func cut(text string) string {
	if len(text) > wire.MaxLogLine {
		text = strings.ToValidUTF8(text[:wire.MaxLogLine], "")
	}
	return text
}

// Text returns the contents of the ring.
func (l *Log) Text() string {
	lines, _ := l.after(0)
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line.Text)
		b.WriteByte('\n')
	}
	return b.String()
}

// after returns the lines of the ring with a greater number and a channel closed at the next line.
func (l *Log) after(seq int64) ([]wire.Line, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.last - int64(len(l.lines)) // number of the line before the ring's first
	return slices.Clone(l.lines[min(max(0, seq-first), int64(len(l.lines))):]), l.more
}

// Writer returns a writer of lines with a prefix. Use one for each source: an incomplete line waits for its rest, so
// that a secret split by the pipe is still found.
func (l *Log) Writer(prefix string) io.Writer { return &lineWriter{log: l, prefix: prefix} }

type lineWriter struct {
	log    *Log
	prefix string
	mu     sync.Mutex
	rest   []byte
	key    privateKey
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
		w.line(w.rest[:i])
		w.rest = w.rest[i+1:]
	}
	for len(w.rest) > partialLine {
		i := bytes.LastIndexAny(w.rest[:partialLine], " \t") + 1 // whole words, so that no part of a secret is left
		if name := dangling.FindIndex(w.rest[:i]); name != nil {
			i = bytes.LastIndexAny(w.rest[:name[0]], " \t") + 1
		}
		if i == 0 {
			i = len(w.rest)
		}
		w.line(w.rest[:i])
		w.rest = w.rest[i:]
	}
	return len(p), nil
}

func (w *lineWriter) line(text []byte) { w.log.line(w.prefix + w.key.clean(string(text))) }
