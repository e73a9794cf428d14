package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// stampFile records what was installed. It is part of an image, unlike the guest's state.
const stampFile = "/usr/local/lib/cloudbot/installed.json"

// done is one step's stamp.
type done struct {
	Revision int       `json:"revision"`
	At       time.Time `json:"at"`
	Note     string    `json:"note,omitempty"` // what was chosen
}

type stamp struct {
	mu    sync.Mutex
	path  string
	Steps map[string]done `json:"steps"`
}

func (s *stamp) read(path string) error {
	s.path, s.Steps = path, map[string]done{}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if json.Unmarshal(text, s) != nil || s.Steps == nil {
		s.Steps = map[string]done{} // an incomplete stamp counts as none: steps can be repeated
	}
	return nil
}

func (s *stamp) has(step Step) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.Steps[step.Name]
	return ok && d.Revision >= step.Revision
}

func (s *stamp) add(step Step, note string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Steps[step.Name] = done{step.Revision, time.Now().UTC().Truncate(time.Second), note}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return putFile(s.path, append(text, '\n'), 0o644)
}

// Notes returns what the steps chose, by step.
func (i *Installer) Notes() map[string]string {
	notes := map[string]string{}
	i.stamp.mu.Lock()
	defer i.stamp.mu.Unlock()
	for name, d := range i.stamp.Steps {
		if d.Note != "" {
			notes[name] = d.Note
		}
	}
	return notes
}

// Versions returns the installed versions by name: os, and node and openclaw once they are installed.
func (i *Installer) Versions() map[string]string {
	v := map[string]string{"os": i.os}
	notes := i.Notes()
	for _, name := range []string{"node", "openclaw"} {
		if n := notes[name]; n != "" {
			v[name] = versionOf(n)
		}
	}
	return v
}

// path returns the place of an absolute path below the root that is being installed.
func (i *Installer) path(p string) string { return filepath.Join(i.c.root, p) }

// put writes a file of the machine, and creates the folders above it.
func (i *Installer) put(path string, data []byte, mode fs.FileMode) error {
	return putFile(i.path(path), data, mode)
}

// putFile replaces path with a file. After a crash it has either the old or the new content.
func putFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
