package local

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// entry is one call that took effect. The ledger is append-only and has one line for each call, for people and tests.
type entry struct {
	Time        time.Time `json:"time"`
	Call        string    `json:"call"` // launch, start, stop, terminate
	Machine     string    `json:"machine"`
	ClientToken string    `json:"client_token"`
	Request     string    `json:"request,omitempty"` // SHA-256 of a launch's parameters
	User        uint32    `json:"user,omitempty"`    // the user of the machine from here on, unless it is the control plane's own
}

// known is what the ledger says about one machine.
type known struct {
	Launched, Terminated bool
	Request              string
	ClientToken          string
	Last                 string    // latest call
	Began, Ended         time.Time // the latest call that made it run, and the one after that
	User                 uint32    // 0: the control plane's own user
}

// running reports whether the machine should run.
func (k known) running() bool { return k.Last == "launch" || k.Last == "start" }

// ledger also reads entries appended by other processes.
type ledger struct {
	path  string
	users users // one number for each machine that has none

	mu       sync.Mutex
	offset   int64
	machines map[string]known
}

// add appends an entry and returns once it is on disk.
func (l *ledger) add(e entry) error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	defer f.Close() // also releases the lock
	if err := flock(context.Background(), f); err != nil {
		return fmt.Errorf("lock ledger: %w", err)
	}
	if err := l.giveUser(&e); err != nil {
		return err
	}
	e.Time = time.Now().UTC()
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	// An incomplete last line is of a call that never took effect. It must go, or it would merge with our line.
	end, err := wholeLines(f)
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.WriteAt(append(text, '\n'), end)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("append to ledger: %w", err)
	}
	return nil
}

// giveUser gives the machine a user of its own if it should have one and has none. The ledger's file is locked.
func (l *ledger) giveUser(e *entry) error {
	if l.users.count == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.catchUp(); err != nil || l.machines[e.Machine].User != 0 {
		return err
	}
	taken := map[uint32]bool{}
	for _, k := range l.machines {
		taken[k.User] = true // permanently: files that a machine leaves behind must not become another machine's
	}
	var err error
	e.User, err = l.users.pick(l.path+e.Machine, func(id uint32) bool { return taken[id] })
	return err
}

// wholeLines returns the offset after the last line end.
func wholeLines(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	end := st.Size()
	for b := make([]byte, 4096); end > 0; {
		n := min(int64(len(b)), end)
		if _, err := f.ReadAt(b[:n], end-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(b[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
	}
	return 0, nil
}

// find returns what the ledger currently says about a machine.
func (l *ledger) find(id string) (known, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.catchUp()
	return l.machines[id], err
}

// all returns the ids of all machines that were ever launched.
func (l *ledger) all() ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.catchUp()
	return slices.Sorted(maps.Keys(l.machines)), err
}

func (l *ledger) catchUp() error {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(l.offset, io.SeekStart); err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return nil // an incomplete line is read next time
		}
		if err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
		l.offset += int64(len(line))
		if err := l.learn(line); err != nil {
			return fmt.Errorf("read ledger before byte %d: %w", l.offset, err)
		}
	}
}

// learn refuses a line it cannot read: skipping it could launch a machine twice.
func (l *ledger) learn(line []byte) error {
	var e entry
	if err := json.Unmarshal(line, &e); err != nil {
		return err
	}
	if l.machines == nil {
		l.machines = map[string]known{}
	}
	k := l.machines[e.Machine]
	switch e.Call {
	case "launch":
		k.Launched, k.Request, k.ClientToken = true, e.Request, e.ClientToken
	case "terminate":
		k.Terminated = true
	}
	if e.User != 0 {
		k.User = e.User
	}
	switch was := k.running(); {
	case e.Call == "launch" || e.Call == "start":
		k.Began, k.Ended = e.Time, time.Time{}
	case was:
		k.Ended = e.Time
	}
	k.Last = e.Call
	l.machines[e.Machine] = k
	return nil
}
