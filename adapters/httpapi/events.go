package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/projections"
)

const (
	streamBatch = 100
	// A changed read model mostly changed for somebody else. A stream that looks and finds nothing
	// looks less often, so that thousands of them do not query for every event of one busy account.
	minPause, maxPause = 20 * time.Millisecond, 640 * time.Millisecond
	// writeWithin is how long a reader may take nothing before it is dropped.
	writeWithin = 20 * time.Second
)

// cloudEvent is the envelope of an event, as outside subscribers of the log get it.
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

// events streams the account's own events until the client leaves, its session or token ends, or
// the server drains. It starts after the position the client names, else with what comes next.
func (s *Server) events(c echo.Context, who Claims) error {
	after, err := s.resumeAt(c)
	if err != nil {
		return err
	}
	leave := s.streams.enter(who.Account, s.cfg.MaxStreams)
	if leave == nil {
		return errTooManyStream
	}
	defer leave()
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	revoked, release := s.sessions.Watch(who.Session, 0)
	defer release()
	ctx, cancel := context.WithTimeout(c.Request().Context(), who.ExpiresAt.Sub(s.cfg.Now()))
	defer cancel()
	out := startStream(c)
	if err := out.send("retry: %d\n: as of %d\n\n", retryMillis(), after); err != nil {
		return nil
	}
	s.follow(ctx, out, who.Account, after, revoked)
	return nil
}

func (s *Server) resumeAt(c echo.Context) (int64, error) {
	text := c.Request().Header.Get("Last-Event-ID")
	if text == "" {
		text = c.QueryParam("after")
	}
	if text == "" {
		return s.cfg.Progress.Position(), nil
	}
	if !isPosition(text) {
		return 0, badRequest("invalid_position", "Last-Event-ID is the id of the last event that arrived.")
	}
	return strconv.ParseInt(text, 10, 64)
}

// follow writes what the read model has above after, then waits for it to change. It returns when
// the stream has to end for whatever reason.
func (s *Server) follow(ctx context.Context, out *stream, account string, after int64, revoked <-chan struct{}) {
	heartbeat := time.NewTicker(s.cfg.Heartbeat)
	defer heartbeat.Stop()
	pause := minPause
	for {
		// Asked for before the query, so that a change during it is not missed.
		_, changed := s.cfg.Progress.Changed()
		list, err := s.cfg.Queries.Since(ctx, account, after, streamBatch)
		if err != nil {
			if ctx.Err() == nil {
				s.cfg.Log.Warn("event stream ended", "error", err)
			}
			return // the client comes back with Last-Event-ID
		}
		for _, e := range list {
			if out.event(s.cfg.Source, e) != nil {
				return
			}
			after = e.Position
		}
		if len(list) == streamBatch {
			continue
		}
		if pause = min(2*pause, maxPause); len(list) > 0 {
			pause = minPause
		}
		rest := time.After(pause)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				_ = out.send(": sign in again\n\n")
				return
			case <-revoked:
				_ = out.send(": this session has ended\n\n")
				return
			case <-s.draining:
				_ = out.send("retry: %d\n: come back\n\n", retryMillis())
				return
			case <-heartbeat.C:
				if out.send(": still here\n\n") != nil {
					return
				}
			case <-rest:
				rest = nil
			case <-changed:
				changed = nil
			}
			waiting = rest != nil || changed != nil
		}
	}
}

// retryMillis spreads the clients that lose their streams at one moment.
func retryMillis() int { return 1000 + rand.IntN(2000) }

// stream writes Server-Sent Events.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func startStream(c echo.Context) *stream {
	w := c.Response()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // proxies that would collect before they pass on
	s := &stream{w: w, control: http.NewResponseController(w)}
	// The server's deadline for reading a request would end the stream's context.
	_ = s.control.SetReadDeadline(time.Time{})
	w.WriteHeader(http.StatusOK)
	return s
}

func (s *stream) send(format string, args ...any) error {
	// Where there is no connection to set it on, as in a test's recorder, there is none to stall.
	_ = s.control.SetWriteDeadline(time.Now().Add(writeWithin))
	if _, err := fmt.Fprintf(s.w, format, args...); err != nil {
		return err
	}
	return s.control.Flush()
}

func (s *stream) event(source string, e projections.Entry) error {
	data, err := json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: e.EventID, Source: source, Type: e.Type, Subject: e.Subject,
		Time: e.Time.UTC(), ContentType: "application/json", Sequence: strconv.FormatInt(e.Position, 10),
		Actor: e.Actor, Sentence: e.Sentence, Data: orEmpty(e.Data),
	})
	if err != nil {
		return err
	}
	return s.send("id: %d\nevent: %s\ndata: %s\n\n", e.Position, e.Type, data)
}
