package postgres

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// This file holds the bytes: PostgreSQL's messages, the rows inside them, and the replies. Every other
// file of the package reads as logic. What is measured about it is in bench/RESULTS.md.

// script is the fixed part of a batch's messages.
type script struct{ begin, after, copy, insert, execute, commit, rollback, probe, sync []byte }

func newScript() script {
	execute := message('E', "\x00\x00\x00\x00\x00") // the unnamed portal, all rows
	call := func(stmt string) []byte {
		return append(message('B', "\x00"+stmt+"\x00\x00\x00\x00\x00\x00\x01\x00\x01"), execute...)
	}
	sync := message('S', "")
	return script{
		begin: slices.Concat(call(stmtBegin), call(stmtHead), sync),
		after: opening(stmtAfter),
		copy:  call(stmtCopy), insert: opening(stmtInsert), execute: execute,
		commit: call(stmtCommit), rollback: append(call(stmtRollback), sync...), sync: sync,
		probe: slices.Concat(call(stmtBegin), call(stmtHead), call(stmtCopy)),
	}
}

// message frames a body as the protocol wants it.
func message(kind byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// opening is a Bind up to its parameters, all in binary, without the frame.
func opening(stmt string) []byte { return []byte("\x00" + stmt + "\x00\x00\x01\x00\x01") }

// appendInsert appends an INSERT of the request's one row. A COPY row is also a statement's parameters:
// a count and the fields, each with its length, are written alike in both.
func (s *script) appendInsert(w []byte, r *request, head int64) []byte {
	w = binary.BigEndian.AppendUint32(append(w, 'B'), uint32(4+len(s.insert)+len(r.rows)+2))
	w, _ = r.appendRows(append(w, s.insert...), head)
	return append(append(w, 0, 0), s.execute...)
}

// appendAfter appends the statement that fails unless an entry has the position head.
func (s *script) appendAfter(w []byte, head int64) []byte {
	w = binary.BigEndian.AppendUint32(append(w, 'B'), uint32(4+len(s.after)+2+12+2))
	w = appendInt64(append(append(w, s.after...), 0, 1), head)
	return append(append(w, 0, 0), s.execute...)
}

// appendCopyData appends what follows a COPY statement: the requests' rows and CopyDone.
func appendCopyData(w []byte, requests []*request, head int64) []byte {
	w = append(w, 'd')
	at := len(w)
	w = appendCopyRows(append(w, 0, 0, 0, 0), requests, head)
	binary.BigEndian.PutUint32(w[at:], uint32(len(w)-at))
	return append(w, 'c', 0, 0, 0, 4)
}

// appendCopyRows appends the requests' rows in the binary format of COPY: after a header (signature,
// flags, no extension) and before a trailer.
func appendCopyRows(w []byte, requests []*request, head int64) []byte {
	w = append(w, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	for _, r := range requests {
		w, head = r.appendRows(w, head)
	}
	return append(w, 0xff, 0xff)
}

// reply is the server's answer to messages that end with a Sync.
type reply struct {
	head    int64           // if they asked for it
	refusal *pgconn.PgError // why a statement was refused; nil: none was
	failed  bool            // the transaction is to be rolled back
}

// exchange sends messages that end with a Sync and reads the reply. An error says that the connection
// cannot be used any longer.
func exchange(conn *pgconn.PgConn, wire []byte) (r reply, err error) {
	if err := transmit(conn, wire); err != nil {
		return r, err
	}
	return receive(conn)
}

func transmit(conn *pgconn.PgConn, wire []byte) error {
	if err := conn.Conn().SetWriteDeadline(time.Now().Add(replyPatience)); err != nil {
		return err
	}
	_, err := conn.Conn().Write(wire)
	return errors.Join(err, conn.Conn().SetWriteDeadline(time.Time{}))
}

// receive reads the reply up to the next Sync.
func receive(conn *pgconn.PgConn) (r reply, err error) {
	if err := conn.Conn().SetReadDeadline(time.Now().Add(replyPatience)); err != nil {
		return r, err
	}
	for {
		msg, err := conn.Frontend().Receive()
		if err != nil {
			return r, err
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			if len(m.Values) > 0 && len(m.Values[0]) == 8 {
				r.head = int64(binary.BigEndian.Uint64(m.Values[0]))
			}
		case *pgproto3.ErrorResponse:
			r.refusal = pgconn.ErrorResponseToPgError(m)
			if r.refusal.Severity == "FATAL" || r.refusal.Severity == "PANIC" {
				return r, fmt.Errorf("connection ended: %s", r.refusal.Message)
			}
		case *pgproto3.ReadyForQuery:
			r.failed = m.TxStatus == 'E'
			return r, conn.Conn().SetReadDeadline(time.Time{})
		}
	}
}

// rowColumns match the rows below. The receipt's come last.
const (
	rowColumns = `position, version, time, schema, stream_key, stream, type, id, data, meta,
		receipt_key, receipt, request, response`
	columnCount    = 14
	receiptColumns = 4
)

// positionAt is where in its row an event's position stands: behind two lengths.
const positionAt = 2 + 4

// postgresEpoch is where PostgreSQL's timestamps count from, in Unix microseconds.
const postgresEpoch = 946_684_800_000_000

// appendEventRow appends an event's row, without its position, and with a receipt unless that is nil.
func appendEventRow(b []byte, w *write, version int64, e *eventstore.NewEvent, r *eventstore.Receipt) []byte {
	b = binary.BigEndian.AppendUint16(b, columnCount)
	b = appendInt64(b, 0) // the position, for setPosition
	b = appendInt64(b, version)
	b = appendInt64(b, e.Time.Truncate(time.Microsecond).UnixMicro()-postgresEpoch)
	b = binary.BigEndian.AppendUint32(b, 4)
	b = binary.BigEndian.AppendUint32(b, uint32(e.Schema))
	b = appendField(b, w.key[:])
	b = appendField(b, w.stream)
	b = appendField(b, e.Type)
	b = appendField(b, e.ID)
	b = appendField(b, e.Data)
	at := len(b)
	b = appendMeta(append(b, 0, 0, 0, 0), &e.Meta)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	if r == nil {
		return appendNulls(b, receiptColumns)
	}
	return appendReceipt(b, r)
}

// appendReceiptRow appends the row of a receipt without an event.
func appendReceiptRow(b []byte, r *eventstore.Receipt) []byte {
	b = binary.BigEndian.AppendUint16(b, columnCount)
	return appendReceipt(appendNulls(b, columnCount-receiptColumns), r)
}

// setPosition writes the position into an event's row.
func setPosition(row []byte, position int64) {
	binary.BigEndian.PutUint64(row[positionAt:], uint64(position))
}

func appendReceipt(b []byte, r *eventstore.Receipt) []byte {
	key := indexKey(r.Key)
	b = appendField(appendField(appendField(b, key[:]), r.Key), r.Request)
	if len(r.Response) == 0 {
		return appendNulls(b, 1)
	}
	return appendField(b, r.Response)
}

func appendField[T string | []byte | json.RawMessage](b []byte, v T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func appendInt64(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(v))
}

func appendNulls(b []byte, n int) []byte {
	for range n {
		b = append(b, 0xff, 0xff, 0xff, 0xff)
	}
	return b
}

// int64Parameter is a statement's parameter in binary.
func int64Parameter(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)) }

// columns are what decodeRow reads, in its order.
const columns = `position, version, time, schema, stream, type, id, data, meta`

var errShape = errors.New("a row of an unknown shape")

// decodeRow reads one row and returns its size. All strings of an event share one piece of memory.
func decodeRow(v [][]byte, e *eventstore.Event, types *names) (int, error) {
	if len(v) != 9 || len(v[0]) != 8 {
		return 0, errShape
	}
	e.Position = int64(binary.BigEndian.Uint64(v[0]))
	if len(v[1]) != 8 || len(v[2]) != 8 || len(v[3]) != 4 || len(v[4]) == 0 || len(v[5]) == 0 || len(v[6]) == 0 {
		decodeDamaged(v, e)
		return len(v[4]) + len(v[5]) + len(v[6]) + len(v[7]) + len(v[8]) + 28, nil
	}
	e.Version = int64(binary.BigEndian.Uint64(v[1]))
	e.Time = time.UnixMicro(int64(binary.BigEndian.Uint64(v[2])) + postgresEpoch).UTC()
	e.Schema = int(int32(binary.BigEndian.Uint32(v[3])))
	stream, typ, id, data, meta := v[4], v[5], v[6], v[7], v[8]

	var b strings.Builder
	b.Grow(len(stream) + len(id) + len(meta))
	b.Write(stream)
	b.Write(id)
	b.Write(meta)
	text := b.String()
	name, rest, metaText := text[:len(stream)], text[len(stream):len(stream)+len(id)], text[len(stream)+len(id):]
	aggregate, key, ok := strings.Cut(name, "/")
	e.Stream = eventstore.StreamID{Aggregate: aggregate, ID: key}
	e.ID = rest
	e.Type = types.get(typ)
	e.Data = json.RawMessage(slices.Clone(data))
	err := parseMeta(metaText, &e.Meta)
	switch {
	case err != nil:
		e.Meta = eventstore.Metadata{}
		e.Damage = fmt.Errorf("metadata: %w", err)
	case !ok:
		e.Damage = fmt.Errorf("stream %q has no aggregate", name)
	case e.Version < 1 || e.Schema < 1:
		e.Damage = fmt.Errorf("version %d, schema %d", e.Version, e.Schema)
	}
	if y := e.Time.Year(); y < 1 || y > 9999 {
		e.Time, e.Damage = time.Time{}, errors.New("time out of range")
	}
	return len(text) + len(typ) + len(data) + 28, nil
}

// decodeDamaged reads what there is of a row with empty columns. It makes up the names that are missing,
// so that every event has one.
func decodeDamaged(v [][]byte, e *eventstore.Event) {
	e.Damage = errors.New("columns are empty")
	if len(v[1]) == 8 {
		e.Version = int64(binary.BigEndian.Uint64(v[1]))
	}
	name := func(b []byte, otherwise string) string {
		if len(b) == 0 {
			return otherwise
		}
		return string(b)
	}
	aggregate, key, _ := strings.Cut(name(v[4], "damaged/"+strconv.FormatInt(e.Position, 10)), "/")
	e.Stream = eventstore.StreamID{Aggregate: aggregate, ID: key}
	e.Type = name(v[5], "damaged")
	e.ID = name(v[6], "damaged-"+strconv.FormatInt(e.Position, 10))
	e.Data = slices.Clone(v[7])
}

// names keeps one string for each of the few event types of a page.
type names struct{ seen []string }

func (n *names) get(b []byte) string {
	for _, s := range n.seen {
		if s == string(b) {
			return s
		}
	}
	s := string(b)
	if len(n.seen) < 16 {
		n.seen = append(n.seen, s)
	}
	return s
}
