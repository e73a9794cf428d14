package guest

import (
	"net/http"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// follow sends the phases and log lines after the place that the reader names, until the reader leaves or the guest
// ends. A reader of another boot starts at the beginning.
func (g *Guest) follow(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // the server's deadline for reading a request would end this one
	send := func(f wire.Follow) error {
		_ = control.SetWriteDeadline(time.Now().Add(wire.WriteTimeout))
		return wire.WriteLine(w, f, wire.MaxFollow)
	}
	said, seq := 0, int64(0)
	if from, err := wire.ParsePlace(r.FormValue("after")); err == nil && from.Boot == g.boot {
		reached, _ := g.phases.after(0)
		said, seq = max(0, len(reached)-1), from.Seq // of the phases, the current one is sent again
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if send(wire.Follow{Boot: g.boot}) != nil {
		return
	}
	for {
		reached, later := g.phases.after(said)
		lines, more := g.lines.after(seq)
		for _, p := range reached {
			p.Detail = cut(g.redact.Clean(p.Detail))
			if send(wire.Follow{Phase: &p}) != nil {
				return
			}
			said++
		}
		for _, l := range lines {
			seq = l.Seq
			l.Text = cut(g.redact.Clean(l.Text)) // a second time: a key may be newer than the line
			if send(wire.Follow{Line: &l}) != nil {
				return
			}
		}
		if control.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-later:
		case <-more:
		}
	}
}
