//go:build failpoints

package main

import (
	"os"
	"strings"
	"syscall"
)

// failpoint returns a function that kills the process, as a crash does, at the point that FAILPOINT names. If the name
// has the prefix "panic:", the function panics there instead.
func failpoint() func(point string) {
	name := os.Getenv("FAILPOINT")
	if name == "" {
		return nil
	}
	return func(point string) {
		if bug, planted := strings.CutPrefix(name, "panic:"); planted && point == bug {
			panic("a planted bug")
		}
		if point == name {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}
