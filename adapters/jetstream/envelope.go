package jetstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// DataHeader is DataLeftOut on a message whose event was too large. Its data is only in the log, where
// `cloudbot events` shows it; dataref names the event, and datasha256 is the SHA-256 of the data.
const (
	DataHeader  = "Cloudbot-Data"
	DataLeftOut = "left-out"
)

// ContentType is the content type of an envelope, as the NATS binding of CloudEvents defines it.
const ContentType = "application/cloudevents+json; charset=utf-8"

// Envelope is an event as subscribers see it: a CloudEvents 1.0 JSON object whose data is the event's,
// byte for byte. The client's address is left out.
//
// An event that cannot be read is published with its readable parts and its damage, so that message n
// stays event n. Data that is not JSON is then in data_base64.
type Envelope struct {
	Environment string // part of the source: "/cloudbot/<environment>"
	Epoch       int    // together with the position, a number that is never used twice
	Event       eventstore.Event
	LeftOut     string // SHA-256 of data that is too large for a message and only in the log; "": the data is here
}

const sourcePrefix = "/cloudbot/"

// wireFormat names the attributes. Those of CloudEvents and its sequence and tracing extensions come
// first; our own are lower-case letters, as its naming rule asks.
type wireFormat struct {
	SpecVersion       string          `json:"specversion"`
	ID                string          `json:"id"`
	Source            string          `json:"source"`
	Type              string          `json:"type"`
	Subject           string          `json:"subject"`
	Time              time.Time       `json:"time"`
	DataContentType   string          `json:"datacontenttype"`
	Sequence          string          `json:"sequence"`
	TraceParent       string          `json:"traceparent,omitempty"`
	Epoch             int             `json:"epoch"`
	StreamVersion     int64           `json:"streamversion"`
	DataSchemaVersion int             `json:"dataschemaversion"`
	Actor             string          `json:"actor,omitempty"`
	CommandID         string          `json:"commandid,omitempty"`
	CorrelationID     string          `json:"correlationid,omitempty"`
	CausationID       string          `json:"causationid,omitempty"`
	Damage            string          `json:"damage,omitempty"`
	DataRef           string          `json:"dataref,omitempty"`
	DataSHA256        string          `json:"datasha256,omitempty"`
	DataBase64        []byte          `json:"data_base64,omitempty"`
	Data              json.RawMessage `json:"data,omitempty"`
}

// errNotJSON is the damage of an event whose data is not JSON.
var errNotJSON = errors.New("data is not JSON")

// stub returns the envelope without its data.
func (v Envelope) stub() Envelope {
	v.LeftOut, v.Event.Data = sum(v.Event.Data), nil
	return v
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// Bytes returns the envelope's JSON.
func (v Envelope) Bytes() []byte {
	e := v.Event
	w := wireFormat{
		SpecVersion: "1.0", ID: e.ID, Source: sourcePrefix + v.Environment, Type: e.Type,
		Subject: e.Stream.String(), Time: e.Time.UTC(), DataContentType: "application/json",
		Sequence: strconv.FormatInt(e.Position, 10), TraceParent: e.Meta.TraceParent,
		Epoch: v.Epoch, StreamVersion: e.Version, DataSchemaVersion: e.Schema,
		Actor: e.Meta.Actor, CommandID: e.Meta.CommandID,
		CorrelationID: e.Meta.CorrelationID, CausationID: e.Meta.CausationID,
	}
	whole := v.LeftOut == "" && json.Valid(e.Data)
	switch {
	case v.LeftOut != "":
		w.DataRef, w.DataSHA256 = w.Source+"/events/"+w.Sequence, v.LeftOut
	case !whole:
		w.DataBase64 = e.Data
		if e.Damage == nil {
			e.Damage = errNotJSON
		}
	}
	if e.Damage != nil {
		w.Damage = e.Damage.Error()
	}
	if !whole {
		head, err := json.Marshal(w)
		if err != nil {
			panic(fmt.Sprintf("envelope of event %d: %v", e.Position, err)) // only for a year beyond 9999, which no store accepts
		}
		return head
	}
	// The encoder would compact the data and escape its HTML, so the data is appended unchanged.
	b := w.appendTo(make([]byte, 0, roomOfHead+len(e.Data)))
	b = append(b, ',')
	b = append(b, dataKey...)
	b = append(b, e.Data...)
	return append(b, '}')
}

// roomOfHead is more than the attributes of most events take.
const roomOfHead = 640

// appendTo appends what json.Marshal makes of the attributes of an event with its data, without the closing brace. Every event is
// encoded here, so it is written out: it takes a fifth of the time.
func (w *wireFormat) appendTo(b []byte) []byte {
	text := func(key, value string) {
		b = append(b, key...)
		b = appendText(b, value)
	}
	optional := func(key, value string) {
		if value != "" {
			text(key, value)
		}
	}
	text(`{"specversion":`, w.SpecVersion)
	text(`,"id":`, w.ID)
	text(`,"source":`, w.Source)
	text(`,"type":`, w.Type)
	text(`,"subject":`, w.Subject)
	b = append(b, `,"time":"`...)
	b = w.Time.AppendFormat(b, time.RFC3339Nano)
	text(`","datacontenttype":`, w.DataContentType)
	text(`,"sequence":`, w.Sequence)
	optional(`,"traceparent":`, w.TraceParent)
	b = strconv.AppendInt(append(b, `,"epoch":`...), int64(w.Epoch), 10)
	b = strconv.AppendInt(append(b, `,"streamversion":`...), w.StreamVersion, 10)
	b = strconv.AppendInt(append(b, `,"dataschemaversion":`...), int64(w.DataSchemaVersion), 10)
	optional(`,"actor":`, w.Actor)
	optional(`,"commandid":`, w.CommandID)
	optional(`,"correlationid":`, w.CorrelationID)
	optional(`,"causationid":`, w.CausationID)
	optional(`,"damage":`, w.Damage)
	return b
}

// appendText appends a text as json.Marshal encodes it.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			encoded, _ := json.Marshal(s) // a text always marshals
			return append(b, encoded...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

const dataKey = `"data":`

// ParseEnvelope is the inverse of Bytes, except for the client's address.
func ParseEnvelope(body []byte) (Envelope, error) {
	var w wireFormat
	if err := json.Unmarshal(body, &w); err != nil {
		return Envelope{}, fmt.Errorf("envelope: %w", err)
	}
	position, err := strconv.ParseInt(w.Sequence, 10, 64)
	aggregate, id, ok := strings.Cut(w.Subject, "/")
	environment, ours := strings.CutPrefix(w.Source, sourcePrefix)
	empty := len(w.Data) == 0 && w.DataSHA256 == "" && w.Damage == ""
	if err != nil || position < 1 || !ok || !ours || w.SpecVersion != "1.0" || w.ID == "" || w.Type == "" || empty {
		return Envelope{}, fmt.Errorf("envelope: not one of ours")
	}
	data := json.RawMessage(w.DataBase64)
	if len(w.Data) > 0 {
		data = exactData(body, w.Data)
	}
	var damage error
	if w.Damage != "" {
		damage = errors.New(w.Damage)
	}
	return Envelope{
		Environment: environment, Epoch: w.Epoch, LeftOut: w.DataSHA256,
		Event: eventstore.Event{
			Position: position, Stream: eventstore.StreamID{Aggregate: aggregate, ID: id}, Version: w.StreamVersion,
			NewEvent: eventstore.NewEvent{
				ID: w.ID, Type: w.Type, Schema: w.DataSchemaVersion, Time: w.Time.UTC(), Data: data,
				Meta: eventstore.Metadata{
					Actor: w.Actor, CommandID: w.CommandID, CorrelationID: w.CorrelationID,
					CausationID: w.CausationID, TraceParent: w.TraceParent,
				},
			},
			Damage: damage,
		},
	}, nil
}

// exactData restores the white space around the data: the decoder drops it, and the log keeps it.
func exactData(body []byte, data json.RawMessage) json.RawMessage {
	inner, ok := bytes.CutSuffix(body, []byte("}"))
	if !ok {
		return data
	}
	value, ok := bytes.CutSuffix(bytes.TrimRight(inner, " \t\r\n"), data)
	if !ok {
		return data
	}
	before := bytes.TrimRight(value, " \t\r\n")
	if !bytes.HasSuffix(before, []byte(dataKey)) {
		return data
	}
	return json.RawMessage(inner[len(before):])
}

// Subject returns the subject that an event is published under: cloudbot.events.<aggregate>.<id>.<event>.
func Subject(e eventstore.Event) string {
	name := e.Type
	if _, event, ok := strings.Cut(e.Type, "."); ok {
		name = event
	}
	return SubjectPrefix + token(e.Stream.Aggregate) + "." + token(e.Stream.ID) + "." + token(name)
}

// token turns s into one token of a subject. The log's own names are tokens already; an unexpected name
// must not stop the relay.
func token(s string) string {
	if s == "" {
		return "_"
	}
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, s)
}
