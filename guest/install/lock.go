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

// errLocked says that another program uses the package system, which is not the fault of the package.
var errLocked = errors.New("the package system is in use")

const (
	lockPatience = 10 * time.Minute
	lockLook     = 5 * time.Second
	lockLogEvery = time.Minute // between two log lines about it
)

// lockFiles lists the locks of the package system. apt-get waits only for dpkg's, and dpkg for none.
var lockFiles = []string{"/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"}

// unlocked runs a command of the package system once no other program uses it. At the first boot of a new Ubuntu its own
// upgrades do, for minutes.
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
			// Another program took the lock in between, which is the likelier cause of the failure.
		}
		if waited >= lockPatience {
			return fmt.Errorf("%w by %s for %s: if that does not end, check systemctl status apt-daily apt-daily-upgrade", errLocked, who, waited)
		}
		if waited%lockLogEvery == 0 {
			i.log.Info("waiting for the package system", "holder", who, "waited", waited, "at_most", lockPatience)
			i.waiting(fmt.Sprintf("waiting for %s to release the package system (%s so far)", who, waited))
		}
		_ = i.c.sleep(ctx, lockLook)
		if waited += lockLook; ctx.Err() != nil {
			return fmt.Errorf("%w by %s for %s: %w", errLocked, who, waited, ctx.Err())
		}
	}
}

// lockHolder names the process that holds one of the package system's locks; "": none. It only queries the locks, so it
// does not block other programs.
func (i *Installer) lockHolder() string {
	for _, name := range lockFiles {
		f, err := os.Open(i.path(name))
		if err != nil { // a missing file is not locked
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

// reason shortens an error for a note.
func reason(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) > 200 {
		line = strings.ToValidUTF8(line[:200], "") + "…"
	}
	return line
}
