// Command draw paints the desktop's wallpaper: a night sky over three hills, and the sun about to
// rise behind a cloud.
package main

import (
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"os"
)

const width, height = 1920, 1200

type rgb [3]float64

var (
	top     = rgb{10, 20, 46}
	middle  = rgb{30, 66, 110}
	horizon = rgb{242, 166, 90}
	cloud   = rgb{236, 240, 246}
	hills   = []rgb{{38, 74, 104}, {24, 52, 80}, {12, 28, 48}}
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: draw FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "draw:", err)
		os.Exit(1)
	}
}

func write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := jpeg.Encode(f, paint(), &jpeg.Options{Quality: 86}); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func paint() image.Image {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := at(float64(x)/width, float64(y)/height)
			m.SetRGBA(x, y, color.RGBA{uint8(c[0]), uint8(c[1]), uint8(c[2]), 255})
		}
	}
	return m
}

// at is the colour at x, y, each from 0 to 1.
func at(x, y float64) rgb {
	c := mix(top, middle, smooth(0, 0.55, y))
	glow := math.Exp(-(sq(x-0.68)/0.10 + sq(y-0.74)/0.045))
	c = mix(c, horizon, 0.92*glow)
	c = mix(c, cloud, 0.85*cloudAt(x, y))
	for i, hill := range hills {
		n := float64(i)
		edge := 0.74 + 0.075*n + 0.05*math.Sin(3.1*x*(1+0.3*n)+1.7*n) + 0.018*math.Sin(9*x+4*n)
		c = mix(c, hill, smooth(edge-0.0012, edge+0.0012, y))
	}
	return c
}

// cloudAt is how much of the cloud there is: four discs and what is between them, on a flat base.
func cloudAt(x, y float64) float64 {
	const ratio = float64(width) / height
	in := 0.0
	for _, d := range [][3]float64{{0.60, 0.545, 0.052}, {0.655, 0.50, 0.085}, {0.72, 0.525, 0.066}, {0.765, 0.555, 0.042}} {
		r := math.Hypot((x-d[0])*ratio, y-d[1])
		in = math.Max(in, 1-smooth(d[2]-0.002, d[2]+0.002, r))
	}
	between := smooth(0.60, 0.602, x) * (1 - smooth(0.763, 0.765, x)) * smooth(0.545, 0.549, y)
	in = math.Max(in, between)
	return in * (1 - smooth(0.588, 0.592, y)) * (0.75 + 0.25*smooth(0.60, 0.42, y))
}

func sq(v float64) float64 { return v * v }

// smooth rises from 0 at a to 1 at b.
func smooth(a, b, v float64) float64 {
	t := math.Min(math.Max((v-a)/(b-a), 0), 1)
	return t * t * (3 - 2*t)
}

func mix(a, b rgb, t float64) rgb {
	for i := range a {
		a[i] += (b[i] - a[i]) * t
	}
	return a
}
