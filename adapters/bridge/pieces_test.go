package bridge

import (
	"bytes"
	"testing"
	"unicode/utf8"
)

func TestViewFilter(t *testing.T) {
	t.Parallel()
	format := append([]byte{0}, make([]byte, 19)...)
	encodings := []byte{2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 16}
	request := []byte{3, 1, 0, 0, 0, 0, 5, 0, 3, 32}
	fence := []byte{248, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2}
	continuous := []byte{150, 1, 0, 0, 0, 0, 0, 1, 0, 1}
	dropped := [][]byte{
		{4, 1, 0, 0, 0, 0, 0, 'a'},
		{5, 1, 0, 1, 0, 1},
		{5, 0x81, 0, 1, 0, 1, 3},                                       // with the extra byte of buttons
		append([]byte{6, 0, 0, 0, 0, 0, 0, 4}, 3, 3, 3, 3),             // text that looks like messages
		append([]byte{6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe}, 4, 4),       // extended clipboard
		{250, 0, 1, 2},                                                 // reboot
		append([]byte{251, 0, 5, 0, 3, 32, 1, 0}, make([]byte, 16)...), // another size
		{255, 0, 0, 1, 0, 0, 0, 97, 0, 0, 0, 30},
	}
	var in, want []byte
	for _, m := range [][]byte{format, encodings, request, fence, continuous} {
		in, want = append(in, m...), append(want, m...)
		for _, d := range dropped {
			in = append(in, d...)
		}
	}
	for size := 1; size < len(in); size++ {
		var f viewFilter
		var got []byte
		for rest := in; len(rest) > 0; {
			n := min(size, len(rest))
			out, err := f.pass(nil, rest[:n])
			if err != nil {
				t.Fatal(err)
			}
			got, rest = append(got, out...), rest[n:]
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("in pieces of %d: got %v, want %v", size, got, want)
		}
	}
	var f viewFilter
	if _, err := f.pass(nil, []byte{99}); err == nil {
		t.Errorf("unknown message: got no error, want one")
	}
}

// FuzzViewFilter shows that the output is the same however the input is split, and never has an input message at
// a boundary.
func FuzzViewFilter(f *testing.F) {
	f.Add([]byte{3, 1, 0, 0, 0, 0, 5, 0, 3, 32, 4, 1, 0, 0, 0, 0, 0, 'a'}, 3)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		var whole viewFilter
		want, errWhole := whole.pass(nil, in)
		size = max(1, min(size, 64))
		var cut viewFilter
		var got []byte
		var errCut error
		for rest := in; len(rest) > 0 && errCut == nil; {
			n := min(size, len(rest))
			var out []byte
			out, errCut = cut.pass(nil, rest[:n])
			got, rest = append(got, out...), rest[n:]
		}
		if (errWhole == nil) != (errCut == nil) || !bytes.Equal(got, want) {
			t.Fatalf("whole %v %v, cut %v %v", want, errWhole, got, errCut)
		}
		if len(got) > len(in) || len(cut.head) > 20 {
			t.Fatalf("got %d bytes of %d and a head of %d, want no extra bytes and a head of at most 20", len(got), len(in), len(cut.head))
		}
	})
}

func FuzzUTF8Check(f *testing.F) {
	for _, s := range []string{"", "a", "é€😀", "\xff", "€\xe2\x82", "\xf0\x9f\x98", "\x80", "\xed\xa0\x80"} {
		f.Add([]byte(s), 1)
		f.Add([]byte(s), 2)
	}
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		size = max(1, min(size, 64))
		var c utf8Check
		ok := true
		for rest := in; len(rest) > 0 && ok; {
			n := min(size, len(rest))
			ok, rest = c.add(rest[:n]), rest[n:]
		}
		if got, want := ok && c.complete(), utf8.Valid(in); got != want {
			t.Fatalf("%q in pieces of %d: %t, want %t", in, size, got, want)
		}
	})
}
