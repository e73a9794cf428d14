package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/joho/godotenv"

	"github.com/cloudbot-ai/control-plane/adapters/local"
)

// secretSettings may each be given as a file, under the name with the suffix _FILE.
var secretSettings = []string{
	"JWT_SECRET_KEY", "JWT_REFRESH_SECRET_KEY", "ENCRYPTION_KEY", "DATABASE_URL", "NATS_URL", "ADMIN_TOKEN", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET",
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
}

// readSecretFiles copies the contents of the files to the environment, where settings are read. It returns the files,
// and .env if it contains a secret. The error lists all problems and no contents.
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
		if os.Getenv(name) != "" && dotenv[name] == "" && dotenv[name+"_FILE"] == path {
			// The environment overrides .env. On a second load, it already contains what the first one read.
			files = append(files, path)
			errs = append(errs, os.Unsetenv(name+"_FILE"))
			continue
		}
		if os.Getenv(name) != "" {
			errs = append(errs, fmt.Errorf("%s and %s_FILE are both set; keep one", name, name))
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

// openFiles names the files that a desktop's shell could read if each desktop has its own user. In other setups other
// users may read them, as with the secrets of Docker and Kubernetes.
func openFiles(files []string) error {
	var errs []error
	for _, f := range files {
		if local.OthersRead(f) {
			errs = append(errs, fmt.Errorf("%s holds a secret that every desktop on this computer can read; run chmod 600 %s", f, f))
		}
	}
	return errors.Join(errs...)
}
