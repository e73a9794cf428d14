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
	bodyCost = 8 << 10  // bytes counted for each body in addition to its own: its connection's buffers
	bodyRate = 16 << 10 // bytes a second at which a body must arrive, so that a large one may not be slow
)

// collect reads a request's body before the request takes a place among the requests in flight. A client
// that sends half a body holds only its network's share of memory, for a few seconds.
func (s *Server) collect(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if r.ContentLength == 0 || s.subtree(r.URL.Path) {
			return next(c)
		}
		if s.apart(c.Path()) { // none of these requests uses a body
			leaveUnread(c)
			return next(c)
		}
		most, tooLarge := bodyLimit(r.URL.Path)
		length := r.ContentLength
		if length < 0 {
			length = most // unknown, so at most this
		}
		if length > most {
			leaveUnread(c)
			return tooLarge
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

// bodyLimit returns how many bytes a body may have, and what refuses more.
func bodyLimit(path string) (int64, *refusal) {
	if path == webhookPath {
		return maxDelivery, errDeliveryTooLarge
	}
	return maxBody, errBodyTooLarge
}

// body reads the request's body within its time limit.
func (s *Server) body(c echo.Context, length int64) ([]byte, error) {
	// Without a connection, as in a test's recorder, the deadline cannot be set and is not needed.
	control := http.NewResponseController(c.Response())
	_ = control.SetReadDeadline(time.Now().Add(s.cfg.BodyTime + time.Duration(length)*time.Second/bodyRate))
	most, tooLarge := bodyLimit(c.Request().URL.Path)
	data, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, most))
	switch {
	case err == nil:
		// The server keeps reading to notice a client that disconnects; a deadline would look like that.
		_ = control.SetReadDeadline(time.Time{})
		return data, nil
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errBodySlow
	}
	return nil, badRequest("unreadable_body", "The request body is incomplete; send all of it.")
}

// leaveUnread closes the connection after the answer. Otherwise the server would first wait for the rest of
// the body.
func leaveUnread(c echo.Context) { c.Response().Header().Set("Connection", "close") }
