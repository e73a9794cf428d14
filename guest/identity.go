package guest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	keyFile      = "machine.key" // the private key's seed, base64
	enrolledFile = "enrolled"    // exists once the control plane has the public key
)

// machineKey reads the key stored in dir, or creates one. The key never leaves the machine.
func machineKey(dir string) (ed25519.PrivateKey, error) {
	if err := os.MkdirAll(dir, 0o711); err != nil { // the desktop's user has its home below
		return nil, err
	}
	path := filepath.Join(dir, keyFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed)
		b = []byte(base64.StdEncoding.EncodeToString(seed) + "\n")
		err = writeFile(path, b)
	}
	if err != nil {
		return nil, err
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s is damaged; remove it and launch a new machine", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// writeFile replaces path with a file of mode 0600. After a crash it has either the old or the new content.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// kernelBoot returns the kernel's boot id.
func kernelBoot() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}
