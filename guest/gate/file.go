package gate

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// File is a hold that a file records, so that it outlives the program that set it, but not its own deadline. The file has
// the time when the hold ends, by Now, in nanoseconds.
type File struct {
	Path string
	Max  time.Duration // what the file can hold at most
}

// Set holds from now on for d; 0 ends the hold.
func (f *File) Set(d time.Duration) error {
	if d <= 0 {
		if err := os.Remove(f.Path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	t, err := os.CreateTemp(filepath.Dir(f.Path), ".held-*")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	_, err = t.WriteString(strconv.FormatInt(int64(Now()+min(d, f.Max)), 10) + "\n")
	if err := errors.Join(err, t.Chmod(0o644), t.Close()); err != nil {
		return err
	}
	return os.Rename(t.Name(), f.Path)
}

// Left returns how long the hold still lasts; 0: there is none.
func (f *File) Left() time.Duration {
	b, err := os.ReadFile(f.Path)
	if err != nil {
		return 0
	}
	until, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	left := time.Duration(until) - Now()
	if left < 0 || left > f.Max { // Set writes no such time
		return 0
	}
	return left
}

// lookEvery is how long keys may stay pressed after the file holds. Requests of input look at the file themselves.
const lookEvery = 100 * time.Millisecond

// follow holds as the file says until ctx ends.
func (g *Gate) follow(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if left := g.c.File.Left(); left > 0 || g.Held() > 0 {
			g.Hold(left)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
