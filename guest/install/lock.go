package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// errLocked says that others use the package system: no fault of what was to be installed.
var errLocked = errors.New("the package system is in use")

const (
	lockPatience = 10 * time.Minute
	lockLook     = 5 * time.Second
	lockLogEvery = time.Minute // between two lines in the log about it
)

// lockFiles are the package system's. apt-get waits for dpkg's alone, and dpkg for none.
var lockFiles = []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"}

// unlocked runs a command of the package system once nobody else uses that: at the first boot of a
// fresh Ubuntu its own upgrades do, for minutes.
func (i *Installer) unlocked(ctx context.Context, c Command) error {
	waited := time.Duration(0)
	for {
		who := i.lockHolder()
		if who == "" {
			err := i.c.run(ctx, c)
			if err == nil || ctx.Err() != nil {
				return err
			}
			if who = i.lockHolder(); who == "" {
				return err
			}
			// Somebody came in between, which is likelier the cause than what was to be installed.
		}
		if waited >= lockPatience {
			return fmt.Errorf("%w by %s for %s: if that does not end, look at it with systemctl status apt-daily apt-daily-upgrade", errLocked, who, waited)
		}
		if waited%lockLogEvery == 0 {
			i.log.Info("waiting for the package system, which others use", "holder", who, "waited", waited, "at_most", lockPatience)
			i.waiting(fmt.Sprintf("waiting for %s to leave the package system (%s so far)", who, waited))
		}
		_ = i.c.sleep(ctx, lockLook)
		if waited += lockLook; ctx.Err() != nil {
			return fmt.Errorf("%w by %s for %s: %w", errLocked, who, waited, ctx.Err())
		}
	}
}

// lockHolder names who holds one of the package system's locks; "": nobody. It only asks, and so is
// in nobody's way.
func (i *Installer) lockHolder() string {
	for _, name := range lockFiles {
		f, err := os.Open(i.path(name))
		if err != nil { // not there, so not held
			continue
		}
		l := syscall.Flock_t{Type: syscall.F_WRLCK}
		err = syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &l)
		f.Close()
		if err != nil || l.Type == syscall.F_UNLCK {
			continue
		}
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", l.Pid))
		if err != nil {
			return "another program"
		}
		return fmt.Sprintf("%s (process %d)", strings.TrimSpace(string(comm)), l.Pid)
	}
	return ""
}

// reason is an error in so few words that it can stand in a note.
func reason(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) > 200 {
		line = strings.ToValidUTF8(line[:200], "") + "…"
	}
	return line
}
