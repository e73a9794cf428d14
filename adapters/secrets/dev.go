package secrets

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Dev holds the secrets of a development installation.
type Dev struct {
	JWTSecret        string `json:"jwt_secret_key"`
	JWTRefreshSecret string `json:"jwt_refresh_secret_key"`
	EncryptionKey    string `json:"encryption_key"`
}

// LoadDev reads dir/secrets.json, and creates it if it is missing. If several processes create it at once,
// all get the same secrets.
func LoadDev(dir string) (Dev, error) {
	path := filepath.Join(dir, "secrets.json")
	d, err := readDev(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	text, err := json.MarshalIndent(Dev{randomKey(), randomKey(), randomKey()}, "", "  ")
	if err != nil {
		return d, err
	}
	f, err := os.CreateTemp(dir, ".secrets-*") // mode 0600
	if err != nil {
		return d, fmt.Errorf("make secrets: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return d, fmt.Errorf("make secrets: %w", err)
	}
	// Unlike a rename, a link fails if another process has created the file first.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return d, fmt.Errorf("make secrets: %w", err)
	}
	return readDev(path)
}

func readDev(path string) (d Dev, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return d, fmt.Errorf("read secrets: %w", err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("read secrets: %s: %w", path, err)
	}
	return d, nil
}

func randomKey() string { return base64.StdEncoding.EncodeToString(newKey()) }

// CheckProduction refuses secrets that are empty, shorter than 32 bytes, look like an example, or are used in
// two settings: a leak of one would reveal the other. settings maps names to secrets; the error lists the names.
func CheckProduction(settings map[string]string) error {
	var errs []error
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	sort.Strings(names)
	usedBy := map[string]string{}
	for _, name := range names {
		for secret := range strings.SplitSeq(settings[name], ",") {
			secret = strings.TrimSpace(secret)
			if first, used := usedBy[secret]; used && first != name && secret != "" {
				errs = append(errs, fmt.Errorf("%s and %s are the same; make one of them with `openssl rand -base64 32`", first, name))
				break
			}
			usedBy[secret] = name
			if why := weak(secret); why != "" {
				errs = append(errs, fmt.Errorf("%s %s; make one with `openssl rand -base64 32`", name, why))
				break
			}
		}
	}
	return errors.Join(errs...)
}

func weak(secret string) string {
	lower, distinct := strings.ToLower(secret), map[rune]bool{}
	for _, r := range secret {
		distinct[r] = true
	}
	for _, word := range []string{"change", "default", "example", "your-", "your_", "secret-key", "secret_key", "password", "development", "insecure"} {
		if strings.Contains(lower, word) {
			return "looks like an example"
		}
	}
	switch {
	case secret == "":
		return "is empty"
	case len(secret) < keyBytes:
		return fmt.Sprintf("is shorter than %d bytes", keyBytes)
	case len(distinct) < 10:
		return "repeats few characters"
	}
	return ""
}
