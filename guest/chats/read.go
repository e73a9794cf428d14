package chats

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

const (
	maxSession = wire.MaxChats / 2 // bytes of one session
	around     = 64                // bytes of a copy beside its sessions
	fewer      = 20                // messages asked for if more cannot be read
)

// entry is a session as it was last read.
type entry struct {
	saved wire.SavedSession
	sizes []int // bytes of the messages, with a comma; see wire.SavedElement
	stale bool  // it could not be read again
}

// read returns a copy as JSON. It asks again for the sessions that changed, that the gateway lists with another time than
// before, or that were answering.
func (k *Keeper) read(ctx context.Context, changed map[string]bool) ([]byte, error) {
	payload, err := k.c.Ask(ctx, "sessions.list", map[string]any{"limit": 2 * wire.MaxSavedSessions, "includeDerivedTitles": true})
	if err != nil {
		return nil, err
	}
	rows, err := rowsOf(payload)
	if err != nil {
		return nil, err
	}
	chats := wire.SavedChats{Sessions: []wire.SavedSession{}}
	known := map[string]*entry{}
	left := wire.MaxChats - around
	for i, r := range rows {
		e := k.known[r.Key]
		if e == nil || e.stale || e.saved.Running != nil || changed[r.Key] || e.saved.UpdatedAt != r.updated() {
			if e, err = k.session(ctx, r, e); err != nil {
				return nil, err
			}
		}
		e.saved.Title = r.title()
		one, size := e.within(min(left, maxSession))
		if full := len(e.sizes) > 0 && len(one.Messages) == 0; full || size > left || i == wire.MaxSavedSessions {
			chats.LeftOut = len(rows) - i
			break
		}
		known[r.Key] = e
		left -= size
		chats.Sessions = append(chats.Sessions, one)
	}
	k.known = known
	return json.Marshal(chats)
}

// row is a session as the gateway lists it.
type row struct {
	Key, Label, DisplayName, DerivedTitle string
	UpdatedAt                             any // a number, or anything else
	Archived                              bool
}

func (r row) title() string {
	return shorten(cmp.Or(r.Label, r.DisplayName, r.DerivedTitle), wire.MaxSavedName)
}

func (r row) updated() int64 { return whole(r.UpdatedAt) }

// rowsOf returns the sessions of a list, newest first.
func rowsOf(payload json.RawMessage) ([]row, error) {
	var listed struct{ Sessions []json.RawMessage }
	if err := json.Unmarshal(payload, &listed); err != nil {
		return nil, fmt.Errorf("the agent's list of sessions: %w", errShape)
	}
	var rows []row
	seen := map[string]bool{}
	for _, raw := range listed.Sessions[:min(len(listed.Sessions), 2*wire.MaxSavedSessions)] {
		var r row
		if json.Unmarshal(raw, &r) != nil || r.Key == "" || len(r.Key) > wire.MaxSavedName || r.Archived || seen[r.Key] {
			continue
		}
		seen[r.Key] = true
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(b.updated(), a.updated()) })
	return rows, nil
}

// session reads a session. What the gateway does not hand out stays as it was before, if it was read before.
func (k *Keeper) session(ctx context.Context, r row, before *entry) (*entry, error) {
	// Some gateways do not know maxBytes, and some leave out nothing by themselves.
	payload, err := k.c.Ask(ctx, "chat.history", map[string]any{"sessionKey": r.Key, "limit": wire.MaxSavedMessages, "maxBytes": maxSession})
	if err != nil && ctx.Err() == nil {
		payload, err = k.c.Ask(ctx, "chat.history", map[string]any{"sessionKey": r.Key, "limit": fewer})
	}
	if err == nil {
		var e *entry
		if e, err = historyOf(payload); err == nil {
			e.saved.Key, e.saved.UpdatedAt = r.Key, r.updated()
			return e, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	k.log.Debug("a chat was not read, will retry", "err", err)
	if before == nil {
		before = &entry{saved: wire.SavedSession{Key: r.Key, UpdatedAt: r.updated(), Messages: []wire.SavedMessage{}, LeftOut: true}}
	}
	before.stale = true
	return before, nil
}

// historyOf returns the newest messages of an answer to chat.history.
func historyOf(payload json.RawMessage) (*entry, error) {
	var h struct {
		Messages    []json.RawMessage
		HasMore     bool
		InFlightRun *struct {
			RunID, Text string
			StartedAt   any
		}
	}
	if err := json.Unmarshal(payload, &h); err != nil {
		return nil, fmt.Errorf("the agent's history: %w", errShape)
	}
	e := &entry{saved: wire.SavedSession{Messages: []wire.SavedMessage{}, LeftOut: h.HasMore}}
	size := 0
	for _, raw := range slices.Backward(h.Messages) {
		m, cut, ok := messageOf(raw)
		if !ok {
			continue
		}
		b, err := json.Marshal(m)
		if err != nil {
			continue
		}
		bytes := max(len(b)+1, wire.SavedElement*(1+len(m.Content)))
		if size += bytes; size > maxSession || len(e.sizes) == wire.MaxSavedMessages {
			e.saved.LeftOut = true
			break
		}
		e.saved.Shortened = e.saved.Shortened || cut
		e.saved.Messages, e.sizes = append(e.saved.Messages, m), append(e.sizes, bytes)
	}
	slices.Reverse(e.saved.Messages)
	slices.Reverse(e.sizes)
	if r := h.InFlightRun; r != nil && r.RunID != "" {
		e.saved.Running = &wire.SavedRun{RunID: shorten(r.RunID, wire.MaxSavedName), Text: shorten(r.Text, wire.MaxSavedText), StartedAt: whole(r.StartedAt)}
	}
	return e, nil
}

// within returns the session with the newest messages that have room, and its size.
func (e *entry) within(most int) (wire.SavedSession, int) {
	s := e.saved
	s.Messages, s.LeftOut = []wire.SavedMessage{}, true
	b, err := json.Marshal(s)
	if err != nil {
		return s, wire.MaxChats + 1
	}
	size, from := len(b)+1, len(e.sizes)
	for from > 0 && size+e.sizes[from-1] <= most {
		from--
		size += e.sizes[from]
	}
	s.Messages, s.LeftOut = e.saved.Messages[from:], e.saved.LeftOut || from > 0
	return s, size
}
