package bridge

import "github.com/cloudbot-ai/control-plane/guest/rfb"

// viewFilter forwards a viewer's messages, except those that act on the desktop. A message may be split
// between calls at any byte; only its head is kept.
type viewFilter struct {
	head []byte // of the current message, while its length is unknown
	left uint64 // remaining bytes of the current message
	drop bool   // whether the remaining bytes are dropped
}

func (f *viewFilter) pass(out, in []byte) ([]byte, error) {
	for len(in) > 0 {
		if f.left > 0 {
			n := min(uint64(len(in)), f.left)
			if !f.drop {
				out = append(out, in[:n]...)
			}
			f.left -= n
			in = in[n:]
			continue
		}
		f.head = append(f.head, in[0])
		in = in[1:]
		total, drop, err := rfb.Measure(f.head)
		if err != nil {
			return out, err
		}
		if total == 0 {
			continue
		}
		if !drop {
			out = append(out, f.head...)
		}
		f.left, f.drop = total-uint64(len(f.head)), drop
		f.head = f.head[:0]
	}
	return out, nil
}
