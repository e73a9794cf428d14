package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Folder is a finished backup in a folder.
type Folder string

// Get implements Source.
func (f Folder) Get(_ context.Context, name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(f), name))
}

// String returns the folder.
func (f Folder) String() string { return string(f) }

// NewFolder is a backup that is being written into a folder beside its final place.
type NewFolder struct{ place, temporary string }

// CreateFolder prepares a backup in a folder that does not exist yet, or is empty. Only the user of this process can
// read it.
func CreateFolder(place string) (*NewFolder, error) {
	place, err := filepath.Abs(place)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(place)
	switch {
	case err == nil && len(entries) > 0:
		return nil, fmt.Errorf("%s is not empty: name a new folder for each backup, for example %s", place, filepath.Join(place, time.Now().UTC().Format("20060102T150405Z")))
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return nil, err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(place), filepath.Base(place)+".unfinished-")
	return &NewFolder{place, temporary}, err
}

// Put implements Target.
func (f *NewFolder) Put(_ context.Context, name string, content []byte) error {
	file, err := os.OpenFile(filepath.Join(f.temporary, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// Finish gives the folder its name. Until then a crash leaves only a folder whose name says that it is unfinished.
func (f *NewFolder) Finish() error {
	if err := syncFolder(f.temporary); err != nil {
		return err
	}
	if err := os.Rename(f.temporary, f.place); err != nil { // also over an empty folder
		return err
	}
	return syncFolder(filepath.Dir(f.place))
}

// Discard removes what was written, unless it is finished.
func (f *NewFolder) Discard() error { return os.RemoveAll(f.temporary) }

// String returns the final folder.
func (f *NewFolder) String() string { return f.place }

func syncFolder(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
