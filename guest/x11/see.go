package x11

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
)

// Window is a window of the display.
type Window uint32

// Size returns the screen's size.
func (d *Display) Size() (w, h int, err error) {
	r, err := d.ask(32, request(14, 0, words(d.root)))
	if err != nil {
		return 0, 0, err
	}
	return int(u16(r[16:])), int(u16(r[18:])), nil
}

// Pointer returns where the pointer is.
func (d *Display) Pointer() (x, y int, err error) {
	r, err := d.ask(32, request(38, 0, words(d.root)))
	if err != nil {
		return 0, 0, err
	}
	return i16(r[16:]), i16(r[18:]), nil
}

// Place returns where a window is on the screen.
func (d *Display) Place(w Window) (image.Rectangle, error) {
	size, err := d.ask(32, request(14, 0, words(uint32(w))))
	if err != nil {
		return image.Rectangle{}, err
	}
	at, err := d.ask(32, request(40, 0, words(uint32(w), d.root, 0)))
	if err != nil {
		return image.Rectangle{}, err
	}
	x, y := i16(at[12:]), i16(at[14:])
	return image.Rect(x, y, x+int(u16(size[16:])), y+int(u16(size[18:]))), nil
}

const (
	maxWindows = 2_000 // that Find looks at
	atomName   = 39    // WM_NAME
	viewable   = 2

	pointerRoot = 1 // a focus
)

// Find returns the visible window with a title, but not the given one; 0: there is none.
func (d *Display) Find(title string, not Window) (Window, error) {
	queue := []uint32{d.root}
	for seen := 0; len(queue) > 0 && seen < maxWindows; seen++ {
		w := queue[0]
		queue = queue[1:]
		name, err := d.ask(32, request(20, 0, words(w, atomName, 0, 0, 64)))
		if err != nil {
			if lost(err) {
				continue
			}
			return 0, err
		}
		if n := int(u32(name[16:])); name[1] == 8 && n <= len(name)-32 && string(name[32:32+n]) == title && Window(w) != not {
			state, err := d.ask(32, request(3, 0, words(w)))
			if err == nil && state[26] == viewable {
				return Window(w), nil
			}
		}
		below, err := d.ask(32, request(15, 0, words(w)))
		if err != nil {
			if lost(err) {
				continue
			}
			return 0, err
		}
		for i := range min(int(u16(below[16:])), (len(below)-32)/4) {
			queue = append(queue, u32(below[32+4*i:]))
		}
	}
	return 0, nil
}

// Managed reports whether a window manager is at work.
func (d *Display) Managed() (bool, error) {
	const name = "_NET_SUPPORTING_WM_CHECK" // whole groups of four bytes
	atom, err := d.ask(32, request(16, 1, append([]byte{byte(len(name)), 0, 0, 0}, name...)))
	if err != nil || u32(atom[8:]) == 0 {
		return false, err
	}
	owner, err := d.ask(32, request(20, 0, words(d.root, u32(atom[8:]), 0, 0, 1)))
	return err == nil && owner[1] == 32, err
}

// Remap hides a window and shows it again, so that the window manager takes care of it.
func (d *Display) Remap(w Window) error {
	const mapWindow, unmapWindow = 8, 10
	return d.do(request(unmapWindow, 0, words(uint32(w))), request(mapWindow, 0, words(uint32(w))))
}

// lost reports whether the server refused a request; most often, the window is no longer there.
func lost(err error) bool {
	_, refused := err.(*Error)
	return refused
}

// Focused reports whether keys go to a window: to itself, or to one that contains it or that it contains.
func (d *Display) Focused(w Window) (bool, error) {
	r, err := d.ask(32, request(opGetInputFocus, 0, nil))
	if err != nil {
		return false, err
	}
	focus := u32(r[8:])
	if focus == pointerRoot { // no window manager: keys go where the pointer is
		x, y, err := d.Pointer()
		if err != nil {
			return false, err
		}
		place, err := d.Place(w)
		return image.Pt(x, y).In(place), err
	}
	if focus == 0 || focus == d.root {
		return false, nil
	}
	for _, pair := range [][2]uint32{{uint32(w), focus}, {focus, uint32(w)}} {
		for at, depth := pair[0], 0; at != 0 && at != d.root && depth < 32; depth++ {
			if at == pair[1] {
				return true, nil
			}
			r, err := d.ask(32, request(15, 0, words(at)))
			if err != nil {
				if lost(err) {
					break
				}
				return false, err
			}
			at = u32(r[12:])
		}
	}
	return false, nil
}

// Look returns a picture of the screen.
func (d *Display) Look() (*image.RGBA, error) {
	w, h, err := d.Size()
	if err != nil {
		return nil, err
	}
	r, err := d.ask(32+4*w*h, request(73, 2, words(d.root, 0, uint32(w)|uint32(h)<<16, 0xffffffff)))
	if err != nil {
		return nil, err
	}
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		p := r[32+4*i:]
		copy(m.Pix[4*i:], []byte{p[2], p[1], p[0], 0xff})
	}
	return m, nil
}

// Scaled returns a picture that is at most so wide, each of its pixels the mean of those that it stands for.
func Scaled(m *image.RGBA, width int) *image.RGBA {
	from := m.Bounds().Size()
	if from.X <= width {
		return m
	}
	to := image.NewRGBA(image.Rect(0, 0, width, max(1, from.Y*width/from.X)))
	size := to.Bounds().Size()
	for y := range size.Y {
		y0, y1 := y*from.Y/size.Y, (y+1)*from.Y/size.Y
		for x := range size.X {
			x0, x1 := x*from.X/size.X, (x+1)*from.X/size.X
			var sum [3]int
			for sy := y0; sy < y1; sy++ {
				for sx := x0; sx < x1; sx++ {
					for c, v := range m.Pix[m.PixOffset(sx, sy):][:3] {
						sum[c] += int(v)
					}
				}
			}
			n := max(1, (y1-y0)*(x1-x0))
			to.SetRGBA(x, y, color.RGBA{uint8(sum[0] / n), uint8(sum[1] / n), uint8(sum[2] / n), 0xff})
		}
	}
	return to
}

// Encode returns a picture as a file of at most so many bytes, and its type. A PNG keeps letters sharp; a picture that is
// too large for it becomes a JPEG.
func Encode(m image.Image, most int) (data []byte, mime string, err error) {
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		return nil, "", err
	}
	for quality := 85; b.Len() > most && quality > 0; quality -= 20 {
		mime = "image/jpeg"
		b.Reset()
		if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: quality}); err != nil {
			return nil, "", err
		}
	}
	if mime == "" {
		mime = "image/png"
	}
	return b.Bytes(), mime, nil
}
