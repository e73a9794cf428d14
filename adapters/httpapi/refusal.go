package httpapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/problem"
)

// refusal is an error as the front answers it.
type refusal struct {
	status     int
	code       string
	detail     string
	retryAfter int    // seconds; 0: no Retry-After header
	field      string // of the request that the refusal is about; "": none
	expected   bool   // a budget is used up: not an error of the server, so not logged
}

func (r *refusal) Error() string { return r.detail }

// The front's own refusals.
var (
	errNoRoute       = &refusal{status: 404, code: "not_found", detail: "There is nothing at this path; GET /docs lists the API."}
	errMethod        = &refusal{status: 405, code: "method_not_allowed", detail: "This method is not allowed here; see the Allow header."}
	errNoObject      = &refusal{status: 404, code: "not_found", detail: "This object does not exist."}
	errSignIn        = &refusal{status: 401, code: "unauthenticated", detail: "Sign in: the access token is missing, invalid or expired."}
	errTokenInURL    = &refusal{status: 401, code: "token_in_url", detail: "Tokens in URLs are not accepted, because logs record URLs. Request a ticket (POST /api/instances/{id}/tickets) and offer it as the subprotocol ticket.TICKET, or send the access token in the Authorization header."}
	errInternal      = &refusal{status: 500, code: "internal", detail: "Something went wrong on the server. If this keeps happening, contact support with the request ID."}
	errTimeout       = &refusal{status: 503, code: "timeout", detail: "The request took too long; try again.", retryAfter: 2}
	errStore         = &refusal{status: 503, code: "store_unavailable", detail: "The database is unavailable; try again.", retryAfter: 2}
	errBehind        = &refusal{status: 503, code: "behind", detail: "The latest changes are not visible yet; try again.", retryAfter: 2}
	errBodyTooLarge  = &refusal{status: 413, code: "body_too_large", detail: "The request body is too large; the limit is " + strconv.Itoa(maxBody) + " bytes."}
	errMedia         = &refusal{status: 415, code: "unsupported_media_type", detail: "Send the body as Content-Type: application/json, in UTF-8 and uncompressed."}
	errTooManyAtOnce = &refusal{status: 429, code: "too_many_at_once", detail: "This account has too many open requests; wait for some to finish.", retryAfter: 1}
	errTooManyHere   = &refusal{status: 429, code: "too_many_from_address", detail: "Too many requests from your network are open; wait for some to finish.", retryAfter: 1}
	errOverloaded    = &refusal{status: 503, code: "overloaded", detail: "The server is busy; try again.", retryAfter: 1, expected: true}
	errBodySlow      = &refusal{status: 408, code: "body_too_slow", detail: "The request body arrived too slowly; check your connection and send the request again."}
	errTooManyStream = &refusal{status: 429, code: "too_many_streams", detail: "This account has too many open event streams; close some.", retryAfter: 30}
	errForeignOrigin = &refusal{status: 403, code: "foreign_origin", detail: "Pages of this address may not open connections to this server. Open the server at its own address (CONTROL_PLANE_URL), or ask its operator to add yours to CORS_ORIGINS."}
	errUpgrade       = &refusal{status: 426, code: "upgrade_required", detail: "This is a WebSocket endpoint; send an upgrade request."}
	errUpgradeLost   = &refusal{status: 426, code: "upgrade_lost", detail: "The WebSocket request arrived without its upgrade headers. A proxy between your browser and the server removes them; its operator must let Upgrade and Connection pass."}
	errStarting      = &refusal{status: 503, code: "instance_not_running", detail: "The desktop is still starting; try again in a few seconds.", retryAfter: 3}
	errNotRunning    = &refusal{status: 409, code: "instance_not_running", detail: "The desktop is not running; start it first."}
	errNoMachine     = &refusal{status: 503, code: "machine_unreachable", detail: "The machine is not connected; try again in a few seconds.", retryAfter: 5}
	errNoGuest       = &refusal{status: 409, code: "no_guest", detail: "This desktop comes from the original control plane and has no guest, so it has no screen and no chat here. Create a new desktop to replace it."}
	errMachine       = &refusal{status: 502, code: "machine_answer", detail: "The machine did not send a valid answer."}
	errRestarting    = &refusal{status: 503, code: "restarting", detail: "The server is restarting; try again.", retryAfter: 1}
	errDamaged       = &refusal{status: 409, code: "stream_damaged", detail: "This cannot be changed because one of its stored events cannot be read. Contact support with the request ID."}
	errNotBuiltIn    = &refusal{status: 503, code: "not_available", detail: "This feature is not available on this server."}
)

func invalid(code, detail string) error { return &refusal{status: 422, code: code, detail: detail} }

func badRequest(code, detail string) error { return &refusal{status: 400, code: code, detail: detail} }

// refused returns the answer to an error. Only texts that were written for users leave the server.
func refused(err error) *refusal {
	var (
		r    *refusal
		d    *domain.Error
		h    *echo.HTTPError
		conf *eventstore.ConflictError
	)
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &d):
		p := problem.Of(d)
		if p.Status == http.StatusInternalServerError {
			return errInternal
		}
		r = &refusal{status: p.Status, code: p.Code, detail: p.Detail, field: p.Field}
		if d.Kind == domain.Unavailable || d.Kind == domain.Exhausted {
			r.retryAfter = 2
		}
		return r
	case errors.As(err, &h) && h.Code == http.StatusNotFound:
		return errNoRoute
	case errors.As(err, &h) && h.Code == http.StatusMethodNotAllowed:
		return errMethod
	case errors.Is(err, eventstore.ErrDamaged):
		return errDamaged
	case errors.Is(err, eventstore.ErrUnavailable), errors.As(err, &conf):
		return &refusal{status: 503, code: commands.ErrBusy.Code, detail: commands.ErrBusy.Msg, retryAfter: 2}
	case errors.Is(err, context.DeadlineExceeded):
		return errTimeout
	case away(err):
		return errStore
	}
	return errInternal
}

// away reports whether an error means that Postgres is unavailable: it refuses, is read-only, full, stopping
// or starting, or there is no connection to it, in any of the driver's forms.
func away(err error) bool {
	var (
		sql     interface{ SQLState() string }
		connect *pgconn.ConnectError
		network net.Error
	)
	if errors.As(err, &sql) {
		code := sql.SQLState()
		return code == "25006" || slices.Contains([]string{"08", "53", "57"}, code[:min(2, len(code))])
	}
	if errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) {
		return true
	}
	return slices.ContainsFunc(noConnection, func(known error) bool { return errors.Is(err, known) })
}

// noConnection are the errors of a lost connection: during a read, on the next use, such as a commit, and
// while the pool closes.
var noConnection = []error{io.ErrUnexpectedEOF, io.EOF, pgconn.ErrConnClosed, puddle.ErrClosedPool}

// statusClientClosed is the access log's status of a request whose client disconnected before the answer.
const statusClientClosed = 499

// refuse answers a request with what err says. It is Echo's error handler.
func (s *Server) refuse(err error, c echo.Context) {
	res := c.Response()
	if res.Committed {
		return
	}
	if errors.Is(err, context.Canceled) && c.Request().Context().Err() != nil {
		res.Status = statusClientClosed
		return
	}
	r := refused(err)
	if r.status >= 500 && r != errNotBuiltIn && !r.expected || r == errDamaged {
		s.cfg.Logger.Error("request failed", "request_id", requestID(c), "route", c.Path(), "code", r.code, "err", err)
	}
	h := res.Header()
	if r.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="cloudbot"`)
	}
	if r.status == http.StatusUpgradeRequired {
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade")
	}
	problem.Write(res, c.Request(), problem.Problem{
		Status: r.status, Detail: r.detail, Code: r.code, RequestID: requestID(c), Instance: requestPath(c), Field: r.field,
		RetryAfter: time.Duration(r.retryAfter) * time.Second,
	})
}
