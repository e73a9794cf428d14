package wire

import (
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"
)

// Chats is the service of the newest chats, which the control plane keeps for the time when the machine is stopped. The
// guest announces each copy with a line (ChatsHead), followed by that many bytes of JSON (SavedChats); the control plane
// answers each copy with a line (ChatsKept) before the guest may send the next. Guests without this service answer that
// there is no such service.
const Chats = "chats"

// Limits of a copy.
const (
	MaxChats         = 1 << 20 // bytes of JSON
	MaxChatsHead     = 64      // bytes of a ChatsHead or ChatsKept, its newline included
	MaxSavedSessions = 50
	MaxSavedMessages = 200 // of a session
	MaxSavedParts    = 200 // of a message
	MaxSavedText     = 16 << 10
	MaxSavedResult   = 4 << 10 // bytes of the text of a tool's result
	MaxSavedArgs     = 2 << 10 // bytes of JSON
	MaxSavedName     = 512     // bytes of a key, a title or an id

	// SavedElement is how many bytes a message or a part counts at least: it takes far more memory than a short text.
	SavedElement = 32
)

type (
	// ChatsHead announces a copy.
	ChatsHead struct {
		Bytes int `json:"bytes"`
	}
	// ChatsKept answers a copy; one that was not kept may be sent again later.
	ChatsKept struct {
		Kept bool `json:"kept"`
	}

	// SavedChats is a copy of the newest chats.
	SavedChats struct {
		Sessions []SavedSession `json:"sessions"` // newest first
		LeftOut  int            `json:"left_out"` // older sessions that had no room, as far as they are known
	}
	// SavedSession is one chat. Its names are the control plane's; those of its messages are the gateway's.
	SavedSession struct {
		Key       string         `json:"key"`
		Title     string         `json:"title"`
		UpdatedAt int64          `json:"updated_at"` // in milliseconds of Unix time; 0: unknown
		Messages  []SavedMessage `json:"messages"`   // oldest first
		LeftOut   bool           `json:"left_out"`   // older messages had no room, or could not be read
		Shortened bool           `json:"shortened"`  // a text was too long
		Running   *SavedRun      `json:"running,omitempty"`
	}
	// SavedRun is an answer that had not ended.
	SavedRun struct {
		RunID     string `json:"runId"`
		Text      string `json:"text"`
		StartedAt int64  `json:"startedAt,omitempty"`
	}
	// SavedMessage is a message as in the gateway's chat.history, with what a reader needs.
	SavedMessage struct {
		Role           string      `json:"role"`
		Content        []SavedPart `json:"content"`
		Timestamp      int64       `json:"timestamp,omitempty"`
		IdempotencyKey string      `json:"idempotencyKey,omitempty"`
		ToolCallID     string      `json:"toolCallId,omitempty"`
		ToolName       string      `json:"toolName,omitempty"`
		IsError        bool        `json:"isError,omitempty"`
		StopReason     string      `json:"stopReason,omitempty"`
		CustomType     string      `json:"customType,omitempty"`
		Abort          *SavedAbort `json:"openclawAbort,omitempty"`
		Meta           *SavedMeta  `json:"__openclaw,omitempty"`
	}
	// SavedAbort says that an answer was stopped.
	SavedAbort struct {
		Aborted bool   `json:"aborted"`
		Origin  string `json:"origin,omitempty"` // "restart": not on request
	}
	// SavedMeta is what the gateway knows about a message.
	SavedMeta struct {
		ID             string `json:"id,omitempty"`
		RunID          string `json:"runId,omitempty"`
		IdempotencyKey string `json:"idempotencyKey,omitempty"`
	}
	// SavedPart is a text, a use of a tool, or a picture, whose bytes are never in a copy.
	SavedPart struct {
		Type      string          `json:"type"`
		Text      string          `json:"text,omitempty"`
		ID        string          `json:"id,omitempty"`
		Name      string          `json:"name,omitempty"`
		Arguments json.RawMessage `json:"arguments,omitempty"`
		Alt       string          `json:"alt,omitempty"`
	}
)

var errChats = errors.New("these are not chats within the limits")

// ParseChats reads a copy. It accepts only what respects the limits above.
func ParseChats(text []byte) (SavedChats, error) {
	var c SavedChats
	if len(text) > MaxChats || !utf8.Valid(text) || elements(text) > MaxChats/SavedElement {
		return c, errChats
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, errChats // its text may quote the chat
	}
	if !c.sound() {
		return SavedChats{}, errChats
	}
	return c, nil
}

// elements counts the commas between sessions, messages and parts, before memory is used for them.
func elements(text []byte) (n int) {
	const parts = 6 // the depth of their list: below it, nothing is decoded
	var lists [parts + 1]bool
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			if depth++; depth <= parts {
				lists[depth] = c == '['
			}
		case c == '}', c == ']':
			depth = max(depth-1, 0)
		case c == ',' && depth <= parts && lists[depth]:
			n++
		}
	}
	return n
}

const latest = 1 << 53 // numbers up to it are exact in JavaScript

func number(n int64) bool { return n >= 0 && n < latest }

func names(all ...string) bool {
	return !slices.ContainsFunc(all, func(s string) bool { return len(s) > MaxSavedName })
}

func (c SavedChats) sound() bool {
	return len(c.Sessions) <= MaxSavedSessions && number(int64(c.LeftOut)) &&
		!slices.ContainsFunc(c.Sessions, func(s SavedSession) bool { return !s.sound() })
}

func (s SavedSession) sound() bool {
	if s.Key == "" || !names(s.Key, s.Title) || !number(s.UpdatedAt) || len(s.Messages) > MaxSavedMessages {
		return false
	}
	if r := s.Running; r != nil && (!names(r.RunID) || len(r.Text) > MaxSavedText || !number(r.StartedAt)) {
		return false
	}
	return !slices.ContainsFunc(s.Messages, func(m SavedMessage) bool { return !m.sound() })
}

func (m SavedMessage) sound() bool {
	if !names(m.Role, m.IdempotencyKey, m.ToolCallID, m.ToolName, m.StopReason, m.CustomType) || !number(m.Timestamp) {
		return false
	}
	if a := m.Abort; a != nil && !names(a.Origin) {
		return false
	}
	if x := m.Meta; x != nil && !names(x.ID, x.RunID, x.IdempotencyKey) {
		return false
	}
	return len(m.Content) <= MaxSavedParts && !slices.ContainsFunc(m.Content, func(p SavedPart) bool {
		return !names(p.Type, p.ID, p.Name, p.Alt) || len(p.Text) > MaxSavedText || len(p.Arguments) > MaxSavedArgs
	})
}
