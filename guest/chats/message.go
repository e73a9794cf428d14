package chats

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"strings"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

var errShape = errors.New("it is not of the expected form")

// said is a message of the gateway.
type said struct {
	Role, IdempotencyKey, ToolCallID, ToolName, StopReason, CustomType string

	Content       json.RawMessage
	Timestamp     any
	IsError       bool
	ToolCall      string `json:"tool_call_id"` // as some providers name it
	OpenclawAbort *wire.SavedAbort
	Meta          *wire.SavedMeta `json:"__openclaw"`
}

// part is a part of a message.
type part struct {
	Type, ID, Name, Alt string
	Text                *string
	Arguments, Input    json.RawMessage
}

// roles are those of messages that a reader sees.
var roles = map[string]bool{"user": true, "assistant": true, "toolResult": true, "tool": true, "custom": true}

var calls = map[string]bool{"toolCall": true, "tool_use": true, "toolUse": true, "tool_call": true}

// messageOf returns a message within the limits; cut says that a text was too long. A message that a reader would not see,
// or of another form, is not ok.
func messageOf(raw json.RawMessage) (m wire.SavedMessage, cut, ok bool) {
	var s said
	if json.Unmarshal(raw, &s) != nil || !roles[s.Role] {
		return m, false, false
	}
	name := func(s string) string { return shorten(s, wire.MaxSavedName) }
	m = wire.SavedMessage{
		Role: s.Role, Content: []wire.SavedPart{}, Timestamp: whole(s.Timestamp), IdempotencyKey: name(s.IdempotencyKey),
		ToolCallID: name(cmp.Or(s.ToolCallID, s.ToolCall)), ToolName: name(s.ToolName), IsError: s.IsError, StopReason: name(s.StopReason), CustomType: name(s.CustomType),
	}
	if a := s.OpenclawAbort; a != nil && a.Aborted {
		m.Abort = &wire.SavedAbort{Aborted: true, Origin: name(a.Origin)}
	}
	if x := s.Meta; x != nil {
		m.Meta = &wire.SavedMeta{ID: name(x.ID), RunID: name(x.RunID), IdempotencyKey: name(x.IdempotencyKey)}
	}
	most := wire.MaxSavedText
	if m.Role == "toolResult" || m.Role == "tool" {
		most = wire.MaxSavedResult
	}
	text := func(s string) string {
		short := shorten(s, most)
		cut = cut || short != s
		return short
	}
	var all string
	if json.Unmarshal(s.Content, &all) == nil {
		m.Content = append(m.Content, wire.SavedPart{Type: "text", Text: text(all)})
		return m, cut, true
	}
	var parts []json.RawMessage
	_ = json.Unmarshal(s.Content, &parts)
	if len(parts) > wire.MaxSavedParts {
		parts, cut = parts[:wire.MaxSavedParts], true
	}
	for _, raw := range parts {
		var p part
		if json.Unmarshal(raw, &p) != nil {
			continue
		}
		switch {
		case calls[p.Type]:
			args, short := argumentsOf(p)
			cut = cut || short
			m.Content = append(m.Content, wire.SavedPart{Type: "toolCall", ID: name(p.ID), Name: name(p.Name), Arguments: args})
		case p.Type == "image":
			m.Content = append(m.Content, wire.SavedPart{Type: "image", Alt: name(p.Alt)})
		case p.Text != nil && p.Type != "thinking":
			m.Content = append(m.Content, wire.SavedPart{Type: "text", Text: text(*p.Text)})
		}
	}
	return m, cut, true
}

// argumentsOf returns the arguments of a use of a tool; arguments that are too long become the beginning of their text.
func argumentsOf(p part) (args json.RawMessage, cut bool) {
	args = p.Arguments
	if args == nil {
		args = p.Input
	}
	if args == nil {
		return nil, false
	}
	b, err := json.Marshal(args) // as it will be sent
	if err == nil && len(b) <= wire.MaxSavedArgs {
		return b, false
	}
	b, _ = json.Marshal(shorten(string(args), wire.MaxSavedArgs/8)) // a character may take six bytes
	return b, true
}

// shorten returns a valid text of at most most bytes; one that was longer ends with an ellipsis.
func shorten(s string, most int) string {
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most-len("…")], "") + "…"
	}
	return s
}

// whole returns a number that is exact everywhere; 0 for anything else.
func whole(v any) int64 {
	f, ok := v.(float64)
	if !ok || !(f >= 0 && f < 1<<53) {
		return 0
	}
	return int64(math.Floor(f))
}
