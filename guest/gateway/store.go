package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"syscall"
)

// The sessions on disk: in a folder of the home, an index and a file of JSON lines for each session. The files belong to
// the home's owner, as all else there, and only the owner may read them. So the desktop's user can put anything in their
// place, and the guest may be root: every path is opened inside the home (os.Root), and what is not an ordinary file of
// that owner with valid contents is renamed and left alone.
const (
	storeFolder = ".cloudbot-stand-in" // not OpenClaw's, which may be installed later
	indexFile   = "index.json"
	aside       = ".damaged" // added to the name of a file that is set aside

	maxIndex  = 1 << 20
	maxFile   = 8 << 20  // bytes of a session's file, after which only its newer half is kept
	maxLoaded = 64 << 20 // bytes of all sessions that are read
)

// record is a line of a session's file. The first one names the session.
type record struct {
	Type    string   `json:"type"` // "session", "message", "end" of the run, or "draft": what the run has said so far
	Key     string   `json:"key,omitempty"`
	Message *message `json:"message,omitempty"`
	Run     string   `json:"run,omitempty"`
	Text    string   `json:"text,omitempty"` // of a draft without a message: all text since the latest one
}

type index struct {
	Version  int       `json:"version"`
	Sessions []session `json:"sessions"`
}

// store writes sessions. Its methods do nothing if there is none.
type store struct {
	home    string
	log     *slog.Logger
	failing bool // the latest write failed, which was logged
}

func fileOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16]) + ".jsonl"
}

// shelf is the open folder.
type shelf struct {
	*os.Root
	uid, gid int // of the home
	log      *slog.Logger
}

// open opens the folder, and creates it.
func (s *store) open() (*shelf, error) {
	home, err := os.OpenRoot(s.home)
	if err != nil {
		return nil, err
	}
	defer home.Close()
	st, err := home.Stat(".")
	if err != nil {
		return nil, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return (&shelf{home, int(sys.Uid), int(sys.Gid), s.log}).folder(storeFolder)
}

// folder opens a folder in this one, and creates it.
func (sh *shelf) folder(name string) (*shelf, error) {
	if st, err := sh.Lstat(name); err == nil && !st.IsDir() {
		sh.setAside(name, "it is not a folder")
	}
	made := sh.Mkdir(name, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, made
	}
	root, err := sh.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	in := &shelf{root, sh.uid, sh.gid, sh.log}
	if made != nil {
		return in, nil
	}
	f, err := in.Open(".")
	if err == nil {
		err = errors.Join(in.own(f), f.Close())
	}
	if err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

// own gives a new file to the home's owner. It has no name here: another file may have its name already, as a hard link.
func (sh *shelf) own(f *os.File) error {
	if os.Getuid() != 0 {
		return nil
	}
	return f.Chown(sh.uid, sh.gid)
}

// setAside renames a file that cannot be used. One set aside before it is replaced.
func (sh *shelf) setAside(name, why string) {
	err := sh.Rename(name, name+aside)
	if err != nil { // a folder is there
		if err = sh.RemoveAll(name + aside); err == nil {
			err = sh.Rename(name, name+aside)
		}
	}
	sh.log.Warn("file of the stand-in's sessions set aside", "file", name, "why", why, "err", err)
}

// ordinary opens a file and checks that it is one that this guest can have written.
func (sh *shelf) ordinary(name string, flags int) (*os.File, int64, error) {
	f, err := sh.OpenFile(name, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.Mode().IsRegular() || sys.Nlink != 1 || int(sys.Uid) != sh.uid {
		f.Close()
		return nil, 0, errors.New("it is not an ordinary file of the home's owner")
	}
	return f, st.Size(), nil
}

// read returns a file's contents; nil: there is none, or it was set aside.
func (sh *shelf) read(name string, most int64) []byte {
	f, size, err := sh.ordinary(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var b []byte
	if err == nil {
		defer f.Close()
		if size > most {
			err = fmt.Errorf("it has %d bytes", size)
		} else {
			b, err = io.ReadAll(io.LimitReader(f, most))
		}
	}
	if err != nil {
		sh.setAside(name, err.Error())
		return nil
	}
	return b
}

// replace writes a whole file: readers find the old or the new one.
func (sh *shelf) replace(name string, data []byte) error {
	temporary := name + ".tmp"
	_ = sh.RemoveAll(temporary)
	f, err := sh.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, sh.own(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, sh.Remove(temporary))
	}
	if st, err := sh.Lstat(name); err == nil && !st.Mode().IsRegular() {
		sh.setAside(name, "it is not an ordinary file")
	}
	return sh.Rename(temporary, name)
}

// do opens the folder for one action, and logs the first of several failures.
func (s *store) do(action func(*shelf) error) bool {
	sh, err := s.open()
	if err == nil {
		err = errors.Join(action(sh), sh.Close())
	}
	if err != nil && !s.failing {
		s.log.Warn("saving the stand-in's sessions failed, will retry at the next change", "err", err)
	}
	s.failing = err != nil
	return err == nil
}

// list writes the index.
func (s *store) list(sessions map[string]*session) {
	if s == nil {
		return
	}
	x := index{Version: 1}
	for _, one := range sessions {
		x.Sessions = append(x.Sessions, *one)
	}
	s.do(func(sh *shelf) error {
		b, err := json.Marshal(x)
		return errors.Join(err, sh.replace(indexFile, b))
	})
}

// add appends a line to a session's file.
func (s *store) add(one *session, r record) {
	if s == nil {
		return
	}
	one.unsaved = !s.do(func(sh *shelf) error {
		name := fileOf(one.Key)
		f, size, err := sh.ordinary(name, os.O_WRONLY|os.O_APPEND)
		if err == nil && !one.unsaved && size < maxFile {
			err = json.NewEncoder(f).Encode(r)
			return errors.Join(err, f.Close())
		}
		if err == nil {
			f.Close()
		} else if !errors.Is(err, fs.ErrNotExist) {
			sh.setAside(name, err.Error())
		}
		return sh.replace(name, one.lines())
	})
}

// rewrite writes a session's file again.
func (s *store) rewrite(one *session) {
	if s != nil {
		one.unsaved = !s.do(func(sh *shelf) error { return sh.replace(fileOf(one.Key), one.lines()) })
	}
}

func (s *store) remove(key string) {
	if s == nil {
		return
	}
	s.do(func(sh *shelf) error {
		if err := sh.Remove(fileOf(key)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// lines returns a session's file: its newest messages.
func (s *session) lines() []byte {
	var kept [][]byte
	line := func(r record) []byte {
		b, _ := json.Marshal(r) // texts, numbers and what JSON was decoded to
		return append(b, '\n')
	}
	size := 0
	for i := len(s.messages) - 1; i >= 0; i-- {
		b := line(record{Type: "message", Message: &s.messages[i]})
		if size += len(b); size > maxFile/2 {
			break
		}
		kept = append(kept, b)
	}
	out := line(record{Type: "session", Key: s.Key})
	for i := len(kept) - 1; i >= 0; i-- {
		out = append(out, kept[i]...)
	}
	if asked := s.asked(); asked != "" && s.running == nil {
		out = append(out, line(record{Type: "end", Run: asked})...)
	}
	return out
}

// asked returns the run of the latest question; "": none.
func (s *session) asked() string {
	for i := len(s.messages) - 1; i >= 0; i-- {
		if m := s.messages[i]; m.Role == "user" {
			return strings.TrimSuffix(m.IdempotencyKey, ":user")
		}
	}
	return ""
}
