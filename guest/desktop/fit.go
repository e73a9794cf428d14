package desktop

import "github.com/cloudbot-ai/control-plane/guest/xevents"

// Requests and constants of the core protocol and of the window manager's.
const (
	sendToWindow             = 25
	clientMessage            = 33
	substructureNotify       = 1 << 19
	substructureRedirect     = 1 << 20
	addState, fromPager      = 1, 2
	maxFitted                = 200 // windows
	atomWindow, panelsHeight = 33, 34
)

// windows are those that the window manager of a display manages.
type windows struct {
	x                        *xevents.Conn
	clients, state           uint32 // atoms
	horizontally, vertically uint32
	kind, normal             uint32
}

func newWindows(x *xevents.Conn) (*windows, error) {
	w := &windows{x: x}
	for _, a := range []struct {
		name string
		to   *uint32
	}{
		{"_NET_CLIENT_LIST", &w.clients}, {"_NET_WM_STATE", &w.state}, {"_NET_WM_STATE_MAXIMIZED_HORZ", &w.horizontally},
		{"_NET_WM_STATE_MAXIMIZED_VERT", &w.vertically}, {"_NET_WM_WINDOW_TYPE", &w.kind}, {"_NET_WM_WINDOW_TYPE_NORMAL", &w.normal},
	} {
		b, err := x.Ask(append(xevents.U16([]byte{internAtom, 0, 0, 0}, uint16(len(a.name)), 0), a.name...)...)
		if err != nil {
			return nil, err
		}
		*a.to = xevents.Order.Uint32(b[8:])
	}
	return w, nil
}

// property returns a property's value, of at most so many units of four bytes; none: it is missing, or the window is closed.
func (w *windows) property(window, name, kind, most uint32) []byte {
	b, err := w.x.Ask(xevents.U32([]byte{getProperty, 0, 0, 0}, window, name, kind, 0, most)...)
	if err != nil || len(b) < 32 {
		return nil
	}
	n := int(xevents.Order.Uint32(b[16:])) * int(b[1]) / 8
	return b[32:min(32+n, len(b))]
}

// list returns the windows.
func (w *windows) list() (all []uint32, err error) {
	for b := w.property(w.x.Root, w.clients, atomWindow, maxFitted); len(b) >= 4; b = b[4:] {
		all = append(all, xevents.Order.Uint32(b))
	}
	return all, w.x.Sync()
}

// fit maximises the windows that are larger than a screen of so many pixels, as after a viewer made it smaller.
func (w *windows) fit(width, height int) error {
	all, err := w.list()
	if err != nil {
		return err
	}
	for _, window := range all {
		size, err := w.x.Ask(xevents.U32([]byte{getGeometry, 0, 0, 0}, window)...)
		if err != nil { // it was closed
			continue
		}
		if int(xevents.Order.Uint16(size[16:])) <= width && int(xevents.Order.Uint16(size[18:])) <= height-panelsHeight {
			continue
		}
		if err := w.maximise(window); err != nil {
			return err
		}
	}
	return nil
}

func (w *windows) maximise(window uint32) error {
	message := xevents.U32([]byte{sendToWindow, 0, 0, 0}, w.x.Root, substructureNotify|substructureRedirect)
	message = append(message, clientMessage, 32, 0, 0)
	return w.x.Send(xevents.U32(message, window, w.state, addState, w.horizontally, w.vertically, fromPager, 0)...)
}
