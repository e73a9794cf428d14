package httpapi

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

// export answers with everything that the server holds about the account, as a zip of JSON. It is written as it is read, so an
// export needs little memory. If it fails in the middle, the connection breaks, so that no half of it looks whole.
func (s *Server) export(c echo.Context, who access.Claims) error {
	leave, _ := s.inFlight.Take(fair.Claim{Key: "export:" + who.Account, Max: 1})
	if leave == nil {
		return errTooManyAtOnce
	}
	defer leave()
	if err := s.throttle(c, s.cfg.Limits.Export, "export:"+who.Account); err != nil {
		return err
	}
	ctx := c.Request().Context()
	x := exporter{Server: s, ctx: ctx, account: who.Account, at: s.cfg.Now().UTC()}
	files, err := x.files()
	if err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "application/zip")
	h.Set(echo.HeaderContentDisposition, fmt.Sprintf(`attachment; filename="cloudbot-%s.zip"`, x.at.Format(time.DateOnly)))
	c.Response().WriteHeader(http.StatusOK)
	x.out = zip.NewWriter(&patient{w: c.Response(), control: http.NewResponseController(c.Response())})
	if err := x.write(files); err != nil {
		s.cfg.Logger.WarnContext(ctx, "export ended early", "request_id", requestID(c), "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// patient gives each write its own deadline.
type patient struct {
	w       io.Writer
	control *http.ResponseController
}

func (p *patient) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(writeWithin)) // a test's recorder has none
	return p.w.Write(b)
}

// exporter makes one export.
type exporter struct {
	*Server
	ctx     context.Context
	account string
	at      time.Time
	out     *zip.Writer

	desktops []string // ids
}

// exportFile is a file that is made before the answer begins.
type exportFile struct {
	name string
	data any
}

// files returns the small files.
func (x *exporter) files() ([]exportFile, error) {
	profile, err := x.cfg.Accounts.Profile(x.ctx, x.account)
	if err != nil {
		return nil, err
	}
	sessions, err := x.cfg.Queries.Sessions(x.ctx, x.account)
	if err != nil {
		return nil, err
	}
	tokens, err := x.tokenViews(x.ctx, x.account)
	if err != nil {
		return nil, err
	}
	keys, err := x.cfg.Queries.APIKeys(x.ctx, x.account)
	if err != nil {
		return nil, err
	}
	budgets, err := x.cfg.Budgets.Of(x.ctx, x.account)
	if err != nil {
		return nil, err
	}
	plan, err := x.cfg.Instances.Overview(x.ctx, x.account)
	if err != nil {
		return nil, err
	}
	policy, err := x.cfg.Idle.AccountPolicy(x.ctx, x.account)
	if err != nil {
		return nil, err
	}
	used, err := x.cfg.Queries.Usage(x.ctx, x.account, profile.CreatedAt, x.at)
	if err != nil {
		return nil, err
	}
	costs, err := x.byDesktop(x.ctx, x.account, x.cfg.Prices.Charge(used, profile.CreatedAt, x.at, x.at))
	if err != nil {
		return nil, err
	}
	desktops, err := x.instances()
	if err != nil {
		return nil, err
	}
	return []exportFile{
		{"account.json", map[string]any{"id": profile.ID, "email": profile.Email, "created_at": profile.CreatedAt.UTC(), "idle_policy": policy, "exported_at": x.at}},
		{"sessions.json", viewSessions(sessions, "")}, {"tokens.json", tokens}, {"keys.json", keys}, {"desktops.json", desktops},
		{"usage.json", costs}, {"budgets.json", viewBudgets(budgets)}, {"plan.json", x.viewStatus(plan)},
	}, nil
}

// instances returns all of them, also those that were terminated.
func (x *exporter) instances() ([]instanceView, error) {
	of, all := x.seen(x.account, x.at), []instanceView{}
	for page := (projections.Page{Limit: 100, All: true}); ; {
		l, err := x.cfg.Queries.List(x.ctx, x.account, page, of.month, of.queue...)
		if err != nil {
			return nil, err
		}
		views, _ := x.show(x.ctx, of, l)
		all = append(all, views...)
		if page.Before = l.Next; l.Next == "" {
			break
		}
	}
	for _, v := range all {
		x.desktops = append(x.desktops, v.ID)
	}
	return all, nil
}

func (x *exporter) write(files []exportFile) error {
	w, err := x.create("README.txt")
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, exportReadme); err != nil {
		return err
	}
	for _, f := range files {
		if w, err = x.create(f.name); err != nil {
			return err
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(f.data); err != nil {
			return err
		}
	}
	if err := x.chats(); err != nil {
		return err
	}
	if err := x.events(); err != nil {
		return err
	}
	return x.out.Close()
}

func (x *exporter) create(name string) (io.Writer, error) {
	return x.out.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: x.at})
}

// chats writes the saved chats, a file for each desktop that has some.
func (x *exporter) chats() error {
	if x.cfg.Chats == nil {
		return nil
	}
	for _, id := range x.desktops {
		text, _, err := x.cfg.Chats.Read(x.ctx, x.account, id)
		var none *domain.Error
		if errors.As(err, &none) && none.Kind != domain.Unavailable {
			continue // it has none, or has ended
		}
		if err != nil {
			return fmt.Errorf("chats of %s: %w", id, err)
		}
		w, err := x.create("chats/" + id + ".json")
		if err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// exportedEvent is a line of events.jsonl.
type exportedEvent struct {
	Position int64             `json:"position"`
	Time     time.Time         `json:"time"`
	Type     string            `json:"type"`
	Subject  string            `json:"subject"`
	Actor    string            `json:"actor,omitempty"`
	Addr     string            `json:"client_addr,omitempty"`
	Sentence string            `json:"sentence,omitempty"`
	Data     json.RawMessage   `json:"data,omitempty"`
	Opened   map[string]string `json:"opened,omitempty"` // what the event has sealed under the account's key
	Damage   string            `json:"damage,omitempty"`
}

// events writes every event of the account's streams, one a line.
func (x *exporter) events() error {
	streams, err := x.streams()
	if err != nil {
		return err
	}
	w, err := x.create("events.jsonl")
	if err != nil {
		return err
	}
	lines := json.NewEncoder(w)
	for _, stream := range streams {
		for e, err := range x.cfg.Accounts.Store.ReadStream(x.ctx, stream, 0) {
			if err != nil {
				return fmt.Errorf("events of %s: %w", stream, err)
			}
			line := exportedEvent{Position: e.Position, Time: e.Time, Type: e.Type, Subject: stream.String(), Actor: e.Meta.Actor, Addr: e.Meta.ClientAddr}
			if e.Damage == nil {
				line.Sentence, line.Data, e.Damage = projections.Describe(e)
			}
			if e.Damage == nil {
				if line.Opened, err = x.cfg.Accounts.Reveal(x.ctx, x.account, e); err != nil {
					return err
				}
			} else {
				line.Damage = "This event cannot be read."
			}
			if err := lines.Encode(line); err != nil {
				return err
			}
		}
	}
	return nil
}

// streams returns the streams with events of the account.
func (x *exporter) streams() ([]eventstore.StreamID, error) {
	own := map[eventstore.StreamID]bool{}
	for _, aggregate := range []string{"account", "audit", "billing", "budget", "quota", "token"} {
		own[eventstore.StreamID{Aggregate: aggregate, ID: x.account}] = true
	}
	for _, p := range apikey.Providers {
		own[eventstore.StreamID{Aggregate: "apikey", ID: x.account + "-" + p.ID}] = true
	}
	for after := int64(0); ; {
		list, err := x.cfg.Queries.Since(x.ctx, x.account, after, streamBatch)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			aggregate, id, _ := strings.Cut(e.Subject, "/")
			own[eventstore.StreamID{Aggregate: aggregate, ID: id}] = true
			after = e.Position
		}
		if len(list) < streamBatch {
			break
		}
	}
	return slices.SortedFunc(maps.Keys(own), func(a, b eventstore.StreamID) int { return strings.Compare(a.String(), b.String()) }), nil
}

const exportReadme = `This is what CloudBot's server holds about your account.

account.json    your e-mail address, and when your desktops stop by themselves
sessions.json   where you are logged in
tokens.json     your API tokens, without their texts: the server keeps none
keys.json       for which providers you stored an API key, and its last four characters
desktops.json   your desktops, also those that were terminated
usage.json      what your desktops used, by day; money is in micro-dollars
budgets.json    your budgets
plan.json       your plan
chats/          the newest chats of each desktop, as its machine last sent them
events.jsonl    everything that happened to your account, one event a line, sorted by what it is about. "opened"
                has what the server keeps encrypted, and "client_addr" the address that a request came from.

Not in here: your password, of which the server has only a hash; the API keys themselves, which the server shows to
no one; what is on the disks of your desktops; and what Stripe holds about your payments. The server's backups hold
older copies of the same data until they expire.
`
