package machine

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"testing"
)

// TestPictures checks the measures that the tests with a real agent use: a scaled and compressed picture is like the
// screen, others are not.
func TestPictures(t *testing.T) {
	t.Parallel()
	screen := image.NewRGBA(image.Rect(0, 0, 640, 400))
	fill := func(m *image.RGBA, r image.Rectangle, c color.RGBA) {
		draw.Draw(m, r, image.NewUniform(c), image.Point{}, draw.Src)
	}
	fill(screen, screen.Rect, color.RGBA{22, 50, 79, 255})
	fill(screen, image.Rect(50, 40, 450, 300), color.RGBA{240, 240, 240, 255})
	bare := image.NewRGBA(screen.Rect)
	draw.Draw(bare, bare.Rect, screen, image.Point{}, draw.Src)
	editor := image.Rect(210, 165, 350, 280)
	fill(screen, editor, color.RGBA{60, 60, 60, 255})
	small := image.NewRGBA(image.Rect(0, 0, 600, 375))
	for y := range 375 {
		for x := range 600 {
			small.SetRGBA(x, y, screen.RGBAAt(x*640/600, y*400/375))
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, small, nil); err != nil {
		t.Fatal(err)
	}
	sent, err := jpeg.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	if d := difference(sent, screen); d > alike {
		t.Errorf("the same screen: got a difference of %d, want at most %d", d, alike)
	}
	for what, other := range map[string]image.Image{"black": image.NewRGBA(screen.Rect), "mirrored": mirrored(screen), "without a window": bare} {
		if d := difference(sent, other); d <= alike {
			t.Errorf("%s: got a difference of %d, want more than %d", what, d, alike)
		}
	}
	fill(screen, image.Rect(50, 40, 450, 50), color.RGBA{A: 255}) // the title of another window
	if got := window(bare, screen); got != editor {
		t.Errorf("window: got %v, want %v", got, editor)
	}
}
