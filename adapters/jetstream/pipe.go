package jetstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// outgoing is an event on its way into the stream.
type outgoing struct {
	tail
	msg *nats.Msg
}

// pipe publishes messages one after the other, without waiting for each one's acknowledgement. It costs less for each message
// than the library's futures, which have channels and a timer of their own: here, messages land in the order in which they left.
type pipe struct {
	conn     *nats.Conn
	inbox    string // of acknowledgements; the number of the message follows
	sub      *nats.Subscription
	acks     chan *nats.Msg
	status   chan nats.Status
	patience *time.Timer
	wait     time.Duration
	flight   []outgoing
	bytes    int // of the messages in flight
}

// newPipe returns a pipe for at most window messages at a time.
func newPipe(conn *nats.Conn, window int, patience time.Duration) (*pipe, error) {
	p := &pipe{conn: conn, inbox: conn.NewInbox() + ".", acks: make(chan *nats.Msg, window+1), wait: patience, patience: time.NewTimer(patience)}
	sub, err := conn.ChanSubscribe(p.inbox+"*", p.acks)
	if err != nil {
		return nil, fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	p.sub = sub
	p.status = conn.StatusChanged(nats.DISCONNECTED, nats.RECONNECTING, nats.CLOSED)
	return p, nil
}

func (p *pipe) close() {
	p.patience.Stop()
	p.conn.RemoveStatusListener(p.status)
	_ = p.sub.Unsubscribe()
}

// send publishes a message. The server refuses it unless it follows the event before it.
func (p *pipe) send(o outgoing) error {
	o.msg.Reply = p.inbox + strconv.FormatInt(o.at, 10)
	o.msg.Header[jetstream.ExpectedStreamHeader] = []string{StreamName}
	o.msg.Header[jetstream.ExpectedLastSeqHeader] = []string{strconv.FormatInt(o.at-1, 10)}
	if err := p.conn.PublishMsg(o.msg); err != nil {
		return fmt.Errorf("publish event %d: %w", o.at, err)
	}
	p.flight = append(p.flight, o)
	p.bytes += len(o.msg.Data)
	return nil
}

// land waits for the acknowledgement of the oldest message, and returns its event.
func (p *pipe) land(ctx context.Context) (tail, error) {
	o := p.flight[0]
	select {
	case m := <-p.acks:
		return o.tail, p.landed(m)
	default:
	}
	p.patience.Reset(p.wait)
	select {
	case m := <-p.acks:
		return o.tail, p.landed(m)
	case <-p.status:
		return o.tail, fmt.Errorf("publish event %d: %w", o.at, nats.ErrDisconnected)
	case <-p.patience.C:
		return o.tail, fmt.Errorf("publish event %d: %w", o.at, streamError{jetstream.ErrAsyncPublishTimeout})
	case <-ctx.Done():
		return o.tail, ctx.Err()
	}
}

// landed takes the oldest message out of the flight if m is its acknowledgement.
func (p *pipe) landed(m *nats.Msg) error {
	o := p.flight[0]
	if m.Subject != o.msg.Reply {
		return fmt.Errorf("publish event %d: %w", o.at, streamError{errOutOfTurn})
	}
	number, err := acknowledged(m)
	switch {
	case wrongSequence(err):
		return fmt.Errorf("publish event %d: %w", o.at, errRefused)
	case err != nil:
		return fmt.Errorf("publish event %d: %w", o.at, streamError{err})
	case number != o.at:
		return fmt.Errorf("publish event %d: %w: it got number %d", o.at, errRefused, number)
	}
	p.flight = p.flight[1:]
	p.bytes -= len(o.msg.Data)
	return nil
}

// errOutOfTurn says that a later message was acknowledged first.
var errOutOfTurn = errors.New("an acknowledgement is missing")

// acknowledged returns the number that a message got.
func acknowledged(m *nats.Msg) (number int64, err error) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return 0, jetstream.ErrNoStreamResponse
	}
	// The usual answer has only the stream and the number.
	if rest, ok := bytes.CutPrefix(m.Data, []byte(`{"stream":"`+StreamName+`",`)); ok {
		rest = bytes.TrimLeft(rest, " ")
		if rest, ok = bytes.CutPrefix(rest, []byte(`"seq":`)); ok {
			if digits, ok := bytes.CutSuffix(rest, []byte(`}`)); ok {
				if number, err := strconv.ParseInt(string(bytes.TrimSpace(digits)), 10, 64); err == nil {
					return number, nil
				}
			}
		}
	}
	var answer struct {
		Error  *jetstream.APIError `json:"error"`
		Stream string              `json:"stream"`
		Seq    int64               `json:"seq"`
	}
	switch err := json.Unmarshal(m.Data, &answer); {
	case err != nil || answer.Error == nil && answer.Stream == "":
		return 0, jetstream.ErrInvalidJSAck
	case answer.Error != nil:
		return 0, answer.Error
	}
	return answer.Seq, nil
}
