package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/fair"
)

const (
	bodyCost = 8 << 10  // bytes counted for each body besides its own: what its connection holds meanwhile
	bodyRate = 16 << 10 // bytes a second that a body must come at, so that a large one is no excuse for a slow one
)

// collect reads a request's body before the request takes a place among those that are answered: a
// client that sends half of one holds only its own network's share of memory, for a few seconds.
func (s *Server) collect(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if r.ContentLength == 0 || s.subtree(r.URL.Path) {
			return next(c)
		}
		if s.apart(c.Path()) { // none of these has a use for a body
			leaveUnread(c)
			return next(c)
		}
		length := r.ContentLength
		if length < 0 {
			length = maxBody // it does not say; it may be as long
		}
		if length > maxBody {
			leaveUnread(c)
			return errBodyTooLarge
		}
		leave, verdict := s.bodies.TakeN(bodyCost+int(length), s.shares(c, s.cfg.Limits.BodiesAddress, maxBodies)...)
		if verdict != fair.Taken {
			leaveUnread(c)
			return s.crowded(c, verdict)
		}
		defer leave()
		data, err := s.body(c, length)
		if err != nil {
			leaveUnread(c)
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(data))
		return next(c)
	}
}

// body reads a body that comes in time.
func (s *Server) body(c echo.Context, length int64) ([]byte, error) {
	// Where there is no connection, as in a test's recorder, there is no waiting either.
	control := http.NewResponseController(c.Response())
	_ = control.SetReadDeadline(time.Now().Add(s.cfg.BodyTime + time.Duration(length)*time.Second/bodyRate))
	data, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, maxBody))
	switch {
	case err == nil:
		// The server reads on, to notice a client that leaves: a deadline would look like one.
		_ = control.SetReadDeadline(time.Time{})
		return data, nil
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, errBodyTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errBodySlow
	}
	return nil, badRequest("unreadable_body", "The body ended early; send it whole.")
}

// leaveUnread ends the connection after the answer: the server would wait for the rest of the body first.
func leaveUnread(c echo.Context) { c.Response().Header().Set("Connection", "close") }
