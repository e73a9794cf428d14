package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// stoppingFor is how long a desktop says that it is being stopped, if it is not stopped before.
const stoppingFor = 2 * time.Minute

// notices says what desktops show about their own stop.
type notices struct {
	guests *commands.Guests
	now    func() time.Time
	show   func(instanceID string, n wire.Notice) // on a machine of this replica
	log    *slog.Logger
}

// standing returns what an instance's desktop should show at present.
func (s notices) standing(ctx context.Context, id string) (wire.Notice, error) {
	w, err := s.guests.Warning(ctx, id)
	var refused *domain.Error
	if errors.As(err, &refused) && refused.Kind != domain.Unavailable {
		return wire.Notice{}, nil // it has ended, or its history cannot be read
	}
	if w == nil || err != nil {
		return wire.Notice{}, err
	}
	return warning(*w, s.now()), nil
}

// Events after which a desktop shows another notice, or none, by their names.
var (
	idleWarned    = instance.Codec.Name(instance.IdleWarned{})
	idleExtended  = instance.Codec.Name(instance.IdleExtended{})
	idleWithdrawn = instance.Codec.Name(instance.IdleWithdrawn{})
	stopRequested = instance.Codec.Name(instance.StopRequested{})
)

// follow shows what an event means for the user of its desktop.
func (s notices) follow(e eventstore.Event) {
	decoded, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
	if err != nil {
		s.log.Info("notice of a desktop not shown", "event", e.Type, "instance", e.Stream.ID, "err", err)
		return
	}
	switch ev := decoded.(type) {
	case instance.IdleWarned:
		s.show(e.Stream.ID, warning(ev, s.now()))
	case instance.StopRequested:
		n := wire.Notice{}
		if ev.Cause != "" {
			n = wire.Notice{Text: sentences("CloudBot is stopping this desktop.", ev.Why), For: stoppingFor.Milliseconds()}
		}
		s.show(e.Stream.ID, n)
	default:
		s.show(e.Stream.ID, wire.Notice{})
	}
}

// warning says when a desktop will stop, and why.
func warning(w instance.IdleWarned, now time.Time) wire.Notice {
	left := w.StopAt.Sub(now).Milliseconds()
	if left <= 0 {
		return wire.Notice{}
	}
	begins := fmt.Sprintf("CloudBot will stop this desktop at %s UTC.", w.StopAt.UTC().Format("15:04"))
	text := sentences(begins, w.Why)
	const ends = "Use it, or extend its time in the dashboard, to keep it running."
	if all := sentences(text, ends); len(all) <= wire.MaxNotice {
		text = all
	}
	return wire.Notice{Text: text, For: left, Count: true}
}

// sentences joins two sentences into a notice.
func sentences(first, second string) string {
	if second = strings.TrimSpace(second); second == "" {
		return first
	}
	text := first + " " + second
	if len(text) > wire.MaxNotice {
		text = strings.ToValidUTF8(text[:wire.MaxNotice-len("…")], "") + "…"
	}
	return text
}
