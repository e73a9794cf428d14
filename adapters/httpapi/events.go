package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

const (
	// streamBatch is how many events a stream that resumes reads at a time.
	streamBatch = 100
	// writeWithin is how long a reader may accept no data before it is disconnected; up to a quarter less, because the deadline
	// is not set for each event.
	writeWithin = 20 * time.Second
)

// cloudEvent is the envelope of an event, as external subscribers of the log receive it.
type cloudEvent struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Subject     string          `json:"subject"`
	Time        time.Time       `json:"time"`
	ContentType string          `json:"datacontenttype"`
	Sequence    string          `json:"sequence"` // the position
	Actor       string          `json:"actor"`
	Sentence    string          `json:"sentence"`
	Data        json.RawMessage `json:"data"`
}

// events streams the account's events until the client disconnects, its session or token ends, or the server
// drains. It starts after the position that the client names, or else with the next event.
func (s *Server) events(c echo.Context, who access.Claims) error {
	from, err := s.resumeAt(c)
	if err != nil {
		return err
	}
	return s.streaming(c, who, func(ctx context.Context, out *stream) {
		if out.send("retry: %d\n: as of %s\n\n", retryMillis(), from) == nil {
			out.sees = sees(who)
			s.follow(ctx, out, who.Account, from)
		}
	})
}

// What ends a stream early; the stream sends the text as its last comment.
var (
	errTokenOver   = errors.New("sign in again")
	errSessionOver = errors.New("this session has ended")
	errDraining    = errors.New("come back")
)

// streaming opens one of the account's event streams and calls follow. Its ctx ends when the client
// disconnects, the session or token ends, or the server drains.
func (s *Server) streaming(c echo.Context, who access.Claims, follow func(ctx context.Context, out *stream)) error {
	leave, _ := s.streams.Take(fair.Claim{Key: who.Account, Max: s.cfg.MaxStreams})
	if leave == nil {
		return errTooManyStream
	}
	defer leave()
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	revoked, release := s.sessions.Watch(0, who.Session, who.Account)
	defer release()
	ctx, expire := context.WithTimeoutCause(c.Request().Context(), who.ExpiresAt.Sub(s.cfg.Now()), errTokenOver)
	defer expire()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		select {
		case <-revoked:
			end(errSessionOver)
		case <-s.draining:
			// End the streams at different times, so that clients do not all reconnect together.
			select {
			case <-time.After(spread(s.cfg.Grace)):
			case <-ctx.Done():
			}
			end(errDraining)
		case <-ctx.Done():
		}
	}()
	out := startStream(c)
	out.heartbeat = time.NewTicker(s.cfg.Heartbeat)
	defer out.heartbeat.Stop()
	follow(ctx, out)
	switch why := context.Cause(ctx); why {
	case errTokenOver, errSessionOver:
		_ = out.send(": %v\n\n", why)
	case errDraining:
		_ = out.send("retry: %d\n: %v\n\n", retryMillis(), why)
	}
	return nil
}

// point is a position in one epoch of the log. Event ids have it as EPOCH-POSITION.
type point struct {
	epoch    int // 0: an epoch that this log does not have
	position int64
}

func (p point) String() string { return fmt.Sprintf("%d-%d", p.epoch, p.position) }

// parsePoint parses EPOCH-POSITION; a position alone counts as one of the current epoch.
func parsePoint(text string, present int) (point, bool) {
	if isPosition(text) {
		text = strconv.Itoa(present) + "-" + text
	}
	epoch, position, _ := strings.Cut(text, "-")
	n, err := strconv.Atoi(epoch)
	if err != nil || n < 1 || !isPosition(position) || strings.Contains(text, "+") {
		return point{}, false
	}
	at, _ := strconv.ParseInt(position, 10, 64)
	return point{n, at}, true
}

func (s *Server) resumeAt(c echo.Context) (point, error) {
	text := cmp.Or(c.Request().Header.Get("Last-Event-ID"), c.QueryParam("after"))
	present, _ := s.cfg.Epoch.Now()
	if text == "" {
		return point{present, s.cfg.Progress.Position()}, nil
	}
	at, ok := parsePoint(text, present)
	if !ok {
		return point{}, badRequest("invalid_position", "Last-Event-ID must be the id of the last event that arrived.")
	}
	if at.position > s.cfg.Progress.Position() {
		// Read models may be behind. If even the log's head is lower, the client knew another log.
		head, err := s.cfg.Accounts.Log.Store.Head(c.Request().Context())
		if err != nil {
			return point{}, err
		}
		if at.position > head {
			at.epoch = 0
		}
	}
	return at, nil
}

// retryMillis returns a random wait, so that clients that lose their streams together do not reconnect together.
func retryMillis() int { return 1000 + rand.IntN(2000) }

// spread returns a random part of d.
func spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// stream writes Server-Sent Events.
type stream struct {
	w         http.ResponseWriter
	control   *http.ResponseController
	heartbeat *time.Ticker
	sees      func(subject string) bool // which events its client may follow
	allowed   time.Time                 // when the deadline of writes was last set
}

func startStream(c echo.Context) *stream {
	w := c.Response()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // for proxies that would buffer the stream
	s := &stream{w: w, control: http.NewResponseController(w)}
	// The server's deadline for reading a request would end the stream's context.
	_ = s.control.SetReadDeadline(time.Time{})
	w.WriteHeader(http.StatusOK)
	return s
}

func (s *stream) send(format string, args ...any) error { return s.write(fmt.Sprintf(format, args...)) }

// write sends a text; nothing for "".
func (s *stream) write(text string) error {
	if text == "" {
		return nil
	}
	if now := time.Now(); now.Sub(s.allowed) >= writeWithin/4 {
		// Without a connection, as in a test's recorder, the deadline cannot be set and is not needed.
		_ = s.control.SetWriteDeadline(now.Add(writeWithin))
		s.allowed = now
	}
	if _, err := io.WriteString(s.w, text); err != nil {
		return err
	}
	return s.control.Flush()
}

// event sends one event; without an id, the client keeps its Last-Event-ID.
func (s *stream) event(id, name string, data any) error {
	text, err := eventText(id, name, data)
	if err != nil {
		return err
	}
	return s.write(text)
}

func (s *Server) cloudEvent(e projections.Entry) cloudEvent {
	return cloudEvent{
		SpecVersion: "1.0", ID: e.EventID, Source: s.cfg.Source, Type: e.Type, Subject: e.Subject,
		Time: e.Time.UTC(), ContentType: "application/json", Sequence: strconv.FormatInt(e.Position, 10),
		Actor: e.Actor, Sentence: e.Sentence, Data: orEmpty(e.Data),
	}
}
