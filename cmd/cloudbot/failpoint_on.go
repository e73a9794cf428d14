//go:build failpoints

package main

import (
	"os"
	"syscall"
)

// failpoint kills the process, as a crash does, at the point that FAILPOINT names.
func failpoint() func(point string) {
	name := os.Getenv("FAILPOINT")
	if name == "" {
		return nil
	}
	return func(point string) {
		if point == name {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}
