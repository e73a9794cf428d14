package stripetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// webhook is where deliveries go.
type webhook struct {
	url, secret string
	hold        bool // they wait
	lose        int  // the next ones are lost
	repeat      int  // the next ones are sent twice
}

// event is something that happened, with its object as it was then.
type event struct {
	id, kind string
	at       time.Time
	body     []byte
}

// delivery is an event on its way. An event that is sent twice has two.
type delivery struct {
	event    *event
	due      time.Time
	attempts int
	until    time.Time
	done     bool
}

// pauses are those between two attempts. After the last one it is sent every twelve hours, for three days in all.
var pauses = []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour}

const (
	attemptsLast = 3 * day
	patience     = 20 * time.Second // for the webhook's answer
)

// SetWebhook says where deliveries go. secret "": as before.
func (s *Server) SetWebhook(url, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webhook.url, s.webhook.secret = url, cmp.Or(secret, s.webhook.secret)
}

// Hold keeps deliveries back until it is called with false.
func (s *Server) Hold(hold bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webhook.hold = hold
}

// LoseNext loses the deliveries of the next events.
func (s *Server) LoseNext(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webhook.lose = n
}

// RepeatNext sends the deliveries of the next events twice.
func (s *Server) RepeatNext(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webhook.repeat = n
}

// emit records that something happened, and queues its deliveries. An object shows its state at the time.
func (s *Server) emit(kind string, o object, at time.Time) {
	e := &event{id: s.id("evt"), kind: kind, at: at}
	e.body = encode(object{
		"id": e.id, "object": "event", "api_version": version, "created": at.Unix(), "data": object{"object": o}, "livemode": false,
		"pending_webhooks": 1, "request": object{"id": nil, "idempotency_key": nil}, "type": kind,
	})
	s.events = append(s.events, e)
	if s.webhook.lose > 0 || s.chance(s.faults.Lose) {
		s.webhook.lose = max(s.webhook.lose-1, 0)
		s.met["delivery lost"]++
		return
	}
	due := s.now()
	if at.Before(due) {
		due = at
	}
	send := func(after time.Duration) {
		s.queue = append(s.queue, &delivery{event: e, due: due.Add(after), until: due.Add(after + attemptsLast)})
	}
	if s.chance(s.faults.Delay) {
		s.met["delivery late"]++
		send(time.Duration(s.random.Int64N(int64(cmp.Or(s.faults.Late, time.Hour)))))
	} else {
		send(0)
	}
	if s.webhook.repeat > 0 || s.chance(s.faults.Repeat) {
		s.webhook.repeat = max(s.webhook.repeat-1, 0)
		s.met["delivery repeated"]++
		send(time.Duration(s.random.Int64N(int64(cmp.Or(s.faults.Late, time.Hour)))))
	}
}

// Deliver sends each delivery that is due once, and returns how many the webhook took. One that the webhook refused is due
// again later, for three days.
func (s *Server) Deliver(ctx context.Context) (taken int) {
	s.sending.Lock()
	defer s.sending.Unlock()
	for _, d := range s.due() {
		if ctx.Err() != nil {
			return taken
		}
		s.mu.Lock()
		signature := Sign(d.event.body, s.webhook.secret, s.now())
		s.mu.Unlock()
		status, err := s.post(ctx, d.event.body, signature)
		s.mu.Lock()
		d.attempts++
		pause := 12 * time.Hour
		if d.attempts <= len(pauses) {
			pause = pauses[d.attempts-1]
		}
		switch d.due = s.now().Add(pause); {
		case err == nil && status >= 200 && status < 300:
			d.done = true
			taken++
		case d.due.After(d.until):
			d.done = true
			s.met["delivery given up"]++
		default:
			s.met["delivery refused"]++
		}
		s.queue = slices.DeleteFunc(s.queue, func(d *delivery) bool { return d.done })
		s.mu.Unlock()
	}
	return taken
}

// due returns the deliveries whose time has come, in the order in which they are sent.
func (s *Server) due() []*delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	now := s.now()
	if s.webhook.hold || now.Before(s.down) || s.cfg.Post == nil && s.webhook.url == "" {
		return nil
	}
	var found []*delivery
	for _, d := range s.queue {
		if !d.due.After(now) {
			found = append(found, d)
		}
	}
	slices.SortStableFunc(found, func(a, b *delivery) int { return a.due.Compare(b.due) })
	return found
}

// Waiting returns how many deliveries have not been taken yet.
func (s *Server) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return len(s.queue)
}

// Run delivers until the context ends.
func (s *Server) Run(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s.Deliver(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Server) post(ctx context.Context, body []byte, signature string) (int, error) {
	if s.cfg.Post != nil {
		return s.cfg.Post(ctx, body, signature)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.mu.Lock()
	url := s.webhook.url
	s.mu.Unlock()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("Stripe-Signature", signature)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	answer.Body.Close()
	return answer.StatusCode, nil
}

// Sign returns the Stripe-Signature of a body.
func Sign(body []byte, secret string, at time.Time) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

// Event is something that happened.
type Event struct {
	ID   string          `json:"id"`
	Type string          `json:"type"`
	Body json.RawMessage `json:"body"` // as it is delivered
}

// Events returns everything that happened, the oldest first.
func (s *Server) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	all := make([]Event, len(s.events))
	for i, e := range s.events {
		all[i] = Event{e.id, e.kind, e.body}
	}
	return all
}

func (s *Server) getEvent(r *request) (any, error) {
	if err := r.form.done(); err != nil {
		return nil, err
	}
	for _, e := range s.events {
		if e.id == r.id {
			return json.RawMessage(e.body), nil
		}
	}
	return nil, missing("event", r.id)
}

// Resend sends events again, as an operator can in Stripe's dashboard. Without ids: those of all events.
func (s *Server) Resend(ids ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := 0
	for _, e := range s.events {
		if len(ids) == 0 || slices.Contains(ids, e.id) {
			s.queue = append(s.queue, &delivery{event: e, due: s.now(), until: s.now().Add(attemptsLast)})
			found++
		}
	}
	if found < len(ids) {
		return fmt.Errorf("no such event among %v", ids)
	}
	return nil
}
