// Package clipboard puts what viewers paste onto a display itself, for a VNC server that cannot be trusted with it: x11vnc
// takes no text in its first seconds, and no letters beyond Latin-1. A Filter stands between a viewer and that server.
package clipboard

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"unicode/utf8"

	"github.com/cloudbot-ai/control-plane/guest/xevents"
)

// Max is the longest text that a viewer may paste, in bytes of UTF-8.
const Max = 1 << 20

// Owner owns the clipboard of a display, and the primary selection, while they have a text that a viewer pasted.
type Owner struct {
	log *slog.Logger

	mu      sync.Mutex
	display int
	auth    string
	x       *xevents.Conn // nil: not connected
	window  uint32
	atoms   map[string]uint32

	texts sync.Mutex // for text alone: requests for it come while mu is held
	text  string
}

// New returns an owner that belongs to no display yet.
func New(log *slog.Logger) *Owner { return &Owner{log: log} }

// Use says which local display it belongs to from now on, and which authority file has its cookie.
func (o *Owner) Use(display int, auth string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.close()
	o.display, o.auth = display, auth
}

// Close ends its connection to the display, and with it what it owns.
func (o *Owner) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.close()
}

func (o *Owner) close() {
	if o.x != nil {
		o.x.Close()
		o.x = nil
	}
}

// Set returns once every program on the display pastes the text.
func (o *Owner) Set(text string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.connect(); err != nil {
		return err
	}
	o.texts.Lock()
	o.text = text
	o.texts.Unlock()
	for _, selection := range []uint32{o.atoms["CLIPBOARD"], primary} {
		// Owned already or not: programs that watch the selection learn that it has changed.
		if err := o.x.Send(xevents.U32([]byte{setSelectionOwner, 0, 0, 0}, o.window, selection, currentTime)...); err != nil {
			return err
		}
	}
	return o.x.Sync()
}

// Requests, events and constants of the core protocol.
const (
	createWindow      = 1
	internAtom        = 16
	changeProperty    = 18
	setSelectionOwner = 22
	sendEvent         = 25
	selectionRequest  = 30
	selectionNotify   = 31
	primary, atomType = 1, 4 // atoms
	stringType        = 31
	inputOnly         = 2
	replace, add      = 0, 2
	currentTime       = 0
	most              = 128 << 10 // bytes of a property in one request
)

// names are the atoms of selection, targets and their types.
var names = []string{"CLIPBOARD", "TARGETS", "UTF8_STRING", "TEXT", "text/plain;charset=utf-8", "text/plain"}

func (o *Owner) connect() error {
	if o.x != nil {
		select {
		case <-o.x.Done():
			o.close()
		default:
			return nil
		}
	}
	if o.auth == "" {
		return errors.New("there is no display yet")
	}
	asked := make(chan []byte, 64) // programs that want the text; one that asks more often waits in vain
	x, err := xevents.Dial(o.display, o.auth, func(b []byte) {
		if b[0]&0x7f == selectionRequest {
			select {
			case asked <- b:
			default:
			}
		}
	})
	if err != nil {
		return err
	}
	o.atoms = map[string]uint32{}
	for _, name := range names {
		b := xevents.U16([]byte{internAtom, 0, 0, 0}, uint16(len(name)), 0)
		reply, err := x.Ask(append(b, name...)...)
		if err != nil {
			x.Close()
			return fmt.Errorf("ask for the atom %s: %w", name, err)
		}
		o.atoms[name] = xevents.Order.Uint32(reply[8:])
	}
	o.window = x.NewID()
	b := xevents.U16(xevents.U32([]byte{createWindow, 0, 0, 0}, o.window, x.Root), 0, 0, 1, 1, 0, inputOnly)
	if err := x.Send(xevents.U32(b, 0, 0)...); err != nil {
		x.Close()
		return err
	}
	o.x = x
	go o.answer(x, o.atoms, asked)
	return nil
}

// answer gives programs the text until the connection ends.
func (o *Owner) answer(x *xevents.Conn, atoms map[string]uint32, asked <-chan []byte) {
	for {
		select {
		case <-x.Done():
			return
		case b := <-asked:
			if err := o.give(x, atoms, b); err != nil {
				o.log.Info("handing a text to a program failed", "err", err)
			}
		}
	}
}

func (o *Owner) give(x *xevents.Conn, atoms map[string]uint32, request []byte) error {
	at := func(i int) uint32 { return xevents.Order.Uint32(request[i:]) }
	time, requestor, selection, target, property := at(4), at(12), at(16), at(20), at(24)
	if property == 0 {
		property = target // an old program
	}
	o.texts.Lock()
	text := o.text
	o.texts.Unlock()
	kind, format, data := target, byte(8), []byte(nil)
	switch target {
	case atoms["TARGETS"]:
		kind, format = atomType, 32
		for _, name := range names[1:] {
			data = xevents.U32(data, atoms[name])
		}
		data = xevents.U32(data, stringType)
	case atoms["UTF8_STRING"], atoms["text/plain;charset=utf-8"], atoms["text/plain"]:
		data = []byte(text)
	case atoms["TEXT"]:
		kind, data = atoms["UTF8_STRING"], []byte(text)
	case stringType:
		// x11vnc stores it there, as no other program does. It would send viewers their own text as a copy, garbled.
		if property == stringType {
			property = 0
		}
		data = latin1(text)
	default:
		property = 0 // refused
	}
	if property != 0 {
		for mode := byte(replace); mode == replace || len(data) > 0; mode = add {
			part := data[:min(len(data), most)]
			data = data[len(part):]
			b := xevents.U32([]byte{changeProperty, mode, 0, 0}, requestor, property, kind)
			b = xevents.U32(append(b, format, 0, 0, 0), uint32(len(part))*8/uint32(format))
			if err := x.Send(append(b, part...)...); err != nil {
				return err
			}
		}
	}
	b := append(xevents.U32([]byte{sendEvent, 0, 0, 0}, requestor, 0), selectionNotify, 0, 0, 0)
	return x.Send(xevents.U32(b, time, requestor, selection, target, property, 0, 0)...)
}

// latin1 returns the text with a question mark for each letter that Latin-1 lacks.
func latin1(text string) []byte {
	b := make([]byte, 0, utf8.RuneCountInString(text))
	for _, r := range text {
		if r > 0xff {
			r = '?'
		}
		b = append(b, byte(r))
	}
	return b
}
