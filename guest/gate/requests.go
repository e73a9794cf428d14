package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Requests and events of the core protocol.
const (
	sendEvent              = 25
	warpPointer            = 41
	changeKeyboardMapping  = 100
	changeKeyboardControl  = 102
	changePointerControl   = 105
	setPointerMapping      = 116
	setModifierMapping     = 118
	badRequest             = 120 // unassigned: the server answers BadRequest
	noOperation            = 127
	keyPress, keyRelease   = 2, 3
	buttonPress, buttonRel = 4, 5
	motionNotify           = 6
)

const (
	xtest        = "XTEST"
	vncExtension = "VNC-EXTENSION"
)

// Minor opcodes of extensions.
const (
	fakeInput       = 2 // XTEST
	xkbLatchLock    = 5
	xkbByName       = 23
	xiSendEvent     = 31
	bigReqEnable    = 0
	xiDeviceEvents  = 6 // events of XInput that carry input, from its first event on
	maxRequestWords = 1<<22 - 1
)

// xinputRefused are the requests of XInput that create input, or take the user's devices away.
var xinputRefused = map[byte]bool{
	5: true, 11: true, 12: true, // SetDeviceMode, ChangeKeyboardDevice, ChangePointerDevice
	23: true, 25: true, 27: true, 29: true, // ChangeFeedbackControl, ChangeDeviceKeyMapping, SetDevice{Modifier,Button}Mapping
	xiSendEvent: true, 33: true, 35: true, // SetDeviceValuators, ChangeDeviceControl
	37: true, 38: true, // Change-, DeleteDeviceProperty
	41: true, 43: true, // XIWarpPointer, XIChangeHierarchy
	57: true, 58: true, // XIChange-, XIDeleteProperty
}

// xkbRefused are the requests of XKB that create input, or change what the user's keys do. None has an answer.
var xkbRefused = map[byte]bool{
	xkbLatchLock: true,
	7:            true, 9: true, 11: true, // SetControls, SetMap, SetCompatMap
	14: true, 16: true, 25: true, // SetIndicatorMap, SetNamedIndicator, SetDeviceInfo
}

// opcodes are those that the server gave its extensions; 0: it has no such extension.
type opcodes struct {
	xtest, xinput, xkb, bigRequests byte
	vnc                             byte // TigerVNC's own
	xinputEvent                     byte // XInput's first event
}

// refusal says how a request of input is made to fail.
type refusal int

const (
	passed  refusal = iota // it is none
	nothing                // becomes NoOperation: ordinary programs send such requests, too, and an error would end them
	invalid                // becomes a request that does not exist: BadRequest
	value                  // gets an invalid type of event: BadValue
	barred                 // becomes a request that does not exist, also while the display is not held
	hidden                 // asks for an extension that the server does not have, so that also programs learn of it that read no errors
)

const maxHead = 20 // bytes from the beginning of a request that decide about it

var (
	errOrder  = errors.New("the program's first byte names no byte order")
	errLength = errors.New("a request with an impossible length")
)

// requests follows the requests of one client.
type requests struct {
	ops   opcodes
	order binary.ByteOrder // nil: the connection's setup has not come yet
	big   bool             // the client has enabled BIG-REQUESTS
	skip  int              // bytes to come that belong to a request whose head was seen

	refuses func() bool              // asked about each request of input
	faked   func(event, detail byte) // called for each event of XTEST that passes
}

// follow goes through the bytes b, in which it changes what is refused. The first n of them may be sent. The others,
// fewer than maxHead, are an incomplete head: they must come first in the next call.
func (r *requests) follow(b []byte) (n int, err error) {
	for {
		step := min(r.skip, len(b)-n)
		n, r.skip = n+step, r.skip-step
		if n == len(b) {
			return n, nil
		}
		size, err := r.head(b[n:])
		if err != nil || size == 0 {
			return n, err
		}
		r.skip = size
	}
}

// head looks at the head of a request and returns the request's size; 0: more bytes are needed.
func (r *requests) head(b []byte) (size int, err error) {
	if r.order == nil {
		return r.setup(b)
	}
	if len(b) < 4 {
		return 0, nil
	}
	words, offset := int(r.order.Uint16(b[2:])), 4
	if words == 0 {
		if !r.big {
			return 0, errLength
		}
		if len(b) < 8 {
			return 0, nil
		}
		// The server drops these four bytes, so the rest of the head comes later.
		long := r.order.Uint32(b[4:])
		if long < 2 || long > maxRequestWords {
			return 0, errLength
		}
		words, offset = int(long), 8
	}
	size = 4 * words
	how, need := r.classify(b[0], b[1])
	if need += offset; how != passed && need <= size {
		if len(b) < need {
			return 0, nil
		}
		r.decide(how, b, offset)
	}
	if b[0] == r.ops.bigRequests && b[0] != 0 && b[1] == bigReqEnable && size == 4 {
		r.big = true
	}
	return size, nil
}

// setup looks at the first bytes of a connection.
func (r *requests) setup(b []byte) (size int, err error) {
	if len(b) < 12 {
		return 0, nil
	}
	switch b[0] {
	case 'l':
		r.order = binary.LittleEndian
	case 'B':
		r.order = binary.BigEndian
	default:
		return 0, errOrder
	}
	pad := func(n uint16) int { return (int(n) + 3) &^ 3 }
	return 12 + pad(r.order.Uint16(b[6:])) + pad(r.order.Uint16(b[8:])), nil
}

// classify returns how a request would be refused, and how many bytes after its length decide about it.
func (r *requests) classify(major, minor byte) (how refusal, need int) {
	switch major {
	case warpPointer, changeKeyboardMapping, changeKeyboardControl, changePointerControl:
		return nothing, 0
	case setPointerMapping, setModifierMapping: // these have an answer, for which the client waits
		return invalid, 0
	case sendEvent:
		return value, 9
	case queryExtension:
		return hidden, 9
	case 0:
		return passed, 0
	case r.ops.xtest:
		if minor == fakeInput {
			return value, 2
		}
	case r.ops.xkb:
		switch {
		case xkbRefused[minor]:
			return nothing, 0
		case minor == xkbByName: // it can load another keyboard
			return invalid, 0
		}
	case r.ops.vnc: // switches the user's mouse off, and connects viewers, whose input does not pass here
		return barred, 0
	case r.ops.xinput:
		if xinputRefused[minor] {
			return invalid, 0
		}
	}
	return passed, 0
}

// decide asks about a request of input and refuses it in place. The bytes after its length begin at offset.
func (r *requests) decide(how refusal, b []byte, offset int) {
	at := offset // of the event's type
	fake := how == value && b[0] == r.ops.xtest
	switch {
	case how == hidden:
		if r.order.Uint16(b[offset:]) != uint16(len(xtest)) || string(b[offset+4:offset+9]) != xtest {
			return
		}
	case b[0] == sendEvent:
		at += 8
		event, first := b[at]&0x7f, r.ops.xinputEvent
		device := first != 0 && event >= first && event < first+xiDeviceEvents
		if (event < keyPress || event > motionNotify) && !device {
			return
		}
	}
	if how != barred && !r.refuses() {
		if fake {
			r.faked(b[at], b[at+1])
		}
		return
	}
	switch how {
	case nothing:
		b[0] = noOperation
	case invalid, barred:
		b[0] = badRequest
	case value:
		b[at] = 0
	case hidden:
		b[offset+4] = 'x'
	}
}

func (o opcodes) String() string {
	return fmt.Sprintf("XTEST %d, XInput %d, XKB %d, BIG-REQUESTS %d", o.xtest, o.xinput, o.xkb, o.bigRequests)
}
