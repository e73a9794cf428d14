package operator_test

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/operator"
)

// working waits for a Work.
func (m *machine) working(what string, match func(operator.Work) bool) operator.Work {
	m.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		w := m.o.Work()
		if match(w) {
			return w
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: got %+v for a minute", what, w)
		}
	}
}

// Work says when the agent last worked and waited, when its next job is due, and what its models cost. Without a connection
// it is not known.
func TestWork(t *testing.T) {
	t.Parallel()
	dial, stop := standIn(t)
	m := operate(t, dial)
	if w := operator.New(operator.Config{}).Work(); w != (operator.Work{}) {
		t.Errorf("at first: got %+v, want nothing known", w)
	}
	m.connected()
	idle := m.working("connected", func(w operator.Work) bool { return w.Known })
	if !idle.Worked.IsZero() || !idle.Waited.IsZero() || idle.HasNext || idle.Cost != 0 {
		t.Errorf("nothing has happened: got %+v, want only that it is known", idle)
	}
	c := m.client()
	began := time.Now()
	c.say("/approve", "run")
	w := m.working("a run and an approval", func(w operator.Work) bool { return !w.Worked.IsZero() && !w.Waited.IsZero() })
	time.Sleep(20 * time.Millisecond)
	still := m.working("both go on", func(now operator.Work) bool { return now.Worked.After(w.Worked) && now.Waited.After(w.Waited) })
	if still.Worked.Before(began) || still.Waited.After(time.Now()) {
		t.Errorf("got %+v, want times from %v until now", still, began)
	}
	c.send("chat.abort", `{"sessionKey":"main"}`)
	ended := m.working("both end", func(now operator.Work) bool {
		again := m.o.Work()
		return now.Worked.Equal(again.Worked) && now.Waited.Equal(again.Waited) && again.Known
	})
	if ended.Worked.Before(still.Worked) || ended.Waited.Before(still.Waited) {
		t.Errorf("ended: got %+v, want times after %+v", ended, still)
	}

	// Each in a chat of its own: a run of the last one may not have ended.
	say := func(text, key string) {
		c.send("chat.send", `{"sessionKey":"`+key+`","message":"`+text+`","idempotencyKey":"`+key+`"}`)
	}
	say("/schedule 60", "plan")
	m.working("a job", func(w operator.Work) bool {
		return w.HasNext && w.Next > 55*time.Minute && w.Next <= time.Hour
	})
	say("/cost 0.29", "cost")
	m.working("a cost", func(w operator.Work) bool { return w.Cost == 290_000 })
	say("/cost 1.000001", "cost2")
	m.working("another", func(w operator.Work) bool { return w.Cost == 1_290_001 })
	stop()
	gone := m.working("the gateway is gone", func(w operator.Work) bool { return !w.Known })
	if !gone.HasNext || gone.Cost != 1_290_001 {
		t.Errorf("got %+v, want still a job and the cost", gone)
	}
}
