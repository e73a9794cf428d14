package bridge

import (
	"context"
	"net"

	"github.com/cloudbot-ai/control-plane/guest/frames"
	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// toBrowser copies the machine's data. The tunnel's own goroutine does it while the browser keeps up: it writes each piece to
// the browser's socket without waiting, straight from where it arrived. While the browser does not, or its pace is limited, this
// goroutine does. It has a buffer only while something is in it: an idle session must not hold 64 KiB.
func toBrowser(ctx context.Context, machine net.Conn, w *browser, under *frames.Conn, pace pace) error {
	stream, direct := machine.(interface{ Direct(mux.Sink) bool })
	direct = direct && under.Direct() && len(pace) == 0
	size := mux.Large
	if direct { // what waits here comes on top of the stream's window
		size = mux.Half
	}
	in := mux.NewInput(machine, size, nil)
	for ctx.Err() == nil {
		if direct {
			waits := stream.Direct(screen{under})
			if w.flush(under) != nil {
				return errLeft
			}
			if !waits {
				continue
			}
			in.Expect()
		}
		buf, at, err := in.Next(size)
		if err != nil {
			return errMachine
		}
		if pace.wait(ctx, len(buf)-at) != nil || w.send(under, buf, at) != nil {
			return errLeft
		}
		in.Done()
	}
	return errLeft
}

// screen sends a stream's data to a browser.
type screen struct{ under *frames.Conn }

func (s screen) Offer(buf []byte, at int) (n int, ready bool) {
	taken, ready := s.under.TrySend(frames.Binary, buf, at)
	if taken {
		n = len(buf) - at
	}
	return n, ready
}

// send sends a binary message, as write does.
func (w *browser) send(under *frames.Conn, buf []byte, at int) error {
	w.begin()
	defer w.finish()
	return under.Send(frames.Binary, buf, at)
}

// flush sends the rest of a message that TrySend began. It comes before anything else, also a close frame.
func (w *browser) flush(under *frames.Conn) error {
	if !under.Pending() {
		return nil
	}
	w.begin()
	defer w.finish()
	return under.Flush()
}
