package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// guestProgram returns the path of cloudbot-guest beside this program.
func guestProgram() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(self)
	for _, name := range []string{"cloudbot-guest", "cloudbot-guest-" + runtime.GOOS + "-" + runtime.GOARCH} {
		if path := filepath.Join(dir, name); fileExists(path) {
			return path, nil
		}
	}
	return "", errors.New("cloudbot-guest is not beside this program; run `make build`")
}

func fileExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
