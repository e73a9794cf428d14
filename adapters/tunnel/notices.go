package tunnel

import (
	"context"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// longestNotice is how long a desktop may show a notice.
const longestNotice = 24 * time.Hour

// Notice has the desktop show a notice, if this replica holds the machine's tunnel. A notice without text withdraws the one
// before. It returns immediately; a later notice replaces one that was not sent yet.
func (h *Hub) Notice(instanceID string, n wire.Notice) {
	if t := h.local(instanceID); t != nil {
		t.notify(n)
	}
}

// notify has the guest show a notice.
func (t *tunnel) notify(n wire.Notice) {
	t.mu.Lock()
	t.notice, t.noticeAt = &n, time.Now()
	t.mu.Unlock()
	select {
	case t.noticed <- struct{}{}:
	default:
	}
}

// sendNotices sends the notice that stands, which the guest may not have, and then each one, until ctx ends.
func (t *tunnel) sendNotices(ctx context.Context) {
	select {
	case <-t.ready:
	case <-ctx.Done():
		return
	}
	t.standing(ctx)
	for {
		t.mu.Lock()
		n, at := t.notice, t.noticeAt
		t.notice = nil
		t.mu.Unlock()
		if n != nil {
			now := bound(*n, time.Since(at))
			if err := t.send(wire.Message{Notice: &now}); err != nil {
				t.stop() // a tunnel is useless if its control stream cannot be written
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.noticed:
		}
	}
}

// standing looks up the notice that stands. One that came meanwhile is newer.
func (t *tunnel) standing(ctx context.Context) {
	if t.h.c.Standing == nil {
		return
	}
	for wait := backoff(); ; {
		n, err := t.h.c.Standing(ctx, t.instance)
		if err == nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.notice == nil {
				t.notice, t.noticeAt = &n, time.Now()
			}
			return
		}
		if ctx.Err() == nil {
			t.h.log.Warn("notice of a desktop not read, will retry", "instance", t.instance, "err", err)
		}
		if wait.Sleep(ctx) != nil {
			return
		}
	}
}

// bound returns a notice as it is sent so long after it was made. One whose time has passed has no text.
func bound(n wire.Notice, since time.Duration) wire.Notice {
	n.Text = clip(n.Text, wire.MaxNotice)
	if n.For = min(n.For-since.Milliseconds(), longestNotice.Milliseconds()); n.For <= 0 || n.Text == "" {
		return wire.Notice{}
	}
	return n
}
