package assets

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Folder keeps assets as files. Links out of it are not followed.
type Folder struct {
	Dir   string
	Names map[string]string // file's name by asset's, where they differ
}

// String names the folder, for people.
func (f Folder) String() string { return f.Dir }

func (f Folder) open(name string) (*os.File, fs.FileInfo, error) {
	if other := f.Names[name]; other != "" {
		name = other
	}
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	file, err := root.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

func tagOf(info fs.FileInfo) string {
	return fmt.Sprintf("%x-%x", info.ModTime().UnixNano(), info.Size())
}

// Stat implements Source.
func (f Folder) Stat(_ context.Context, name string) (int64, time.Time, string, string, error) {
	file, info, err := f.open(name)
	if err != nil {
		return 0, time.Time{}, "", "", err
	}
	file.Close()
	return info.Size(), info.ModTime(), tagOf(info), "", nil
}

// Open implements Source.
func (f Folder) Open(_ context.Context, name, tag string, offset int64) (io.ReadCloser, error) {
	file, info, err := f.open(name)
	if err != nil {
		return nil, err
	}
	if tagOf(info) != tag {
		file.Close()
		return nil, fmt.Errorf("%s: %w", name, errChanged)
	}
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Put implements Keeper. The file appears complete or not at all.
func (f Folder) Put(_ context.Context, name, _ string, content io.Reader) (err error) {
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(f.Dir, ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	_, err = io.Copy(file, content)
	if err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(f.Dir, name))
}

//go:generate go run ./draw wallpaper.jpg

// wallpaper is our own picture, made by package draw.
//
//go:embed wallpaper.jpg
var wallpaper []byte

// builtIn is the source of assets inside the program.
type builtIn struct{}

func (builtIn) Stat(_ context.Context, name string) (int64, time.Time, string, string, error) {
	if name != "wallpaper.jpg" {
		return 0, time.Time{}, "", "", fs.ErrNotExist
	}
	return int64(len(wallpaper)), time.Time{}, "built-in", "", nil
}

func (builtIn) String() string { return "the program itself" }

func (builtIn) Open(_ context.Context, _, _ string, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(wallpaper[offset:])), nil
}
