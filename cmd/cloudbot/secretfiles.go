package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/joho/godotenv"

	"github.com/cloudbot-ai/control-plane/adapters/local"
)

// secretSettings may each be given as a file, by the name with _FILE behind it.
var secretSettings = []string{
	"JWT_SECRET_KEY", "JWT_REFRESH_SECRET_KEY", "ENCRYPTION_KEY", "DATABASE_URL", "NATS_URL", "ADMIN_TOKEN",
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
}

// readSecretFiles puts what the files hold where the settings are read. It returns the files, and .env if there is a
// secret in it. What is wrong with them is said all at once, and without a word of their contents.
func readSecretFiles() (files []string, err error) {
	var errs []error
	dotenv, _ := godotenv.Read()
	inDotenv := false
	for _, name := range secretSettings {
		inDotenv = inDotenv || dotenv[name] != ""
		path := os.Getenv(name + "_FILE")
		if path == "" {
			continue
		}
		if os.Getenv(name) != "" {
			errs = append(errs, fmt.Errorf("%s and %s_FILE are both given; keep one", name, name))
			continue
		}
		text, err := os.ReadFile(path)
		text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s_FILE: %w", name, err))
			continue
		case len(text) == 0:
			errs = append(errs, fmt.Errorf("%s_FILE: %s is empty", name, path))
			continue
		case bytes.IndexByte(text, 0) >= 0:
			errs = append(errs, fmt.Errorf("%s_FILE: %s is not text", name, path))
			continue
		}
		files = append(files, path)
		errs = append(errs, os.Setenv(name, string(text)), os.Unsetenv(name+"_FILE"))
	}
	if inDotenv {
		files = append(files, ".env")
	}
	return files, errors.Join(errs...)
}

// openFiles names those of the files that a desktop's shell could read, where each desktop has a user of its own.
// Elsewhere nothing is wrong with a file that others can read, as those of Docker and Kubernetes are.
func openFiles(files []string) error {
	var errs []error
	for _, f := range files {
		if local.OthersRead(f) {
			errs = append(errs, fmt.Errorf("%s holds a secret, and every desktop on this computer could read it: chmod 600 %s", f, f))
		}
	}
	return errors.Join(errs...)
}
