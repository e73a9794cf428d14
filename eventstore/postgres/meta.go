package postgres

import (
	"bytes"
	"encoding/json"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Metadata is written and read once for each event, and nearly always plain. These two functions handle
// the plain case and leave the rest to encoding/json, whose output is the same.

// appendMeta appends the metadata as JSON.
func appendMeta(b []byte, m *eventstore.Metadata) []byte {
	start := len(b)
	b = append(b, '{')
	for _, f := range [...]struct{ name, value string }{
		{`"actor":"`, m.Actor},
		{`"command_id":"`, m.CommandID},
		{`"correlation_id":"`, m.CorrelationID},
		{`"causation_id":"`, m.CausationID},
		{`"traceparent":"`, m.TraceParent},
		{`"client_addr":"`, m.ClientAddr},
	} {
		if f.value == "" {
			continue
		}
		if !plain(f.value) {
			slow, _ := json.Marshal(m) // a struct of strings always marshals
			return append(b[:start], slow...)
		}
		if len(b) > start+1 {
			b = append(b, ',')
		}
		b = append(append(append(b, f.name...), f.value...), '"')
	}
	return append(b, '}')
}

// plain reports whether s needs no escaping in JSON.
func plain(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// parseMeta reads metadata. text must outlive the call: the fields point into it, and need no memory of
// their own.
func parseMeta(text string, m *eventstore.Metadata) error {
	*m = eventstore.Metadata{}
	if parsePlain(text, m) {
		return nil
	}
	*m = eventstore.Metadata{}
	return json.NewDecoder(bytes.NewReader([]byte(text))).Decode(m)
}

// parsePlain reads {"name":"value",…} without spaces or escapes, and gives up on anything else.
func parsePlain(s string, m *eventstore.Metadata) bool {
	if s == "{}" {
		return true
	}
	for sep := byte('{'); ; sep = ',' {
		name, value, rest, ok := parsePair(s, sep)
		if !ok {
			return false
		}
		switch name {
		case "actor":
			m.Actor = value
		case "command_id":
			m.CommandID = value
		case "correlation_id":
			m.CorrelationID = value
		case "causation_id":
			m.CausationID = value
		case "traceparent":
			m.TraceParent = value
		case "client_addr":
			m.ClientAddr = value
		default:
			return false
		}
		if rest == "}" {
			return true
		}
		s = rest
	}
}

func parsePair(s string, sep byte) (name, value, rest string, ok bool) {
	if len(s) < 2 || s[0] != sep || s[1] != '"' {
		return
	}
	if name, rest, ok = quoted(s[2:]); !ok || len(rest) < 2 || rest[0] != ':' || rest[1] != '"' {
		return name, value, rest, false
	}
	value, rest, ok = quoted(rest[2:])
	return
}

// quoted cuts s at the next quote, if nothing before it needs unescaping.
func quoted(s string) (in, after string, ok bool) {
	for i := range len(s) {
		switch s[i] {
		case '"':
			return s[:i], s[i+1:], true
		case '\\':
			return "", "", false
		}
	}
	return "", "", false
}
