package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// given replaces the environment by env, in a folder without a .env, and returns that folder.
func given(t *testing.T, env map[string]string) string {
	t.Helper()
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if name == "PATH" || name == "HOME" || strings.HasPrefix(name, "GO") {
			continue
		}
		t.Setenv(name, "") // restored afterwards
		os.Unsetenv(name)
	}
	for name, value := range env {
		t.Setenv(strings.TrimSuffix(name, "_FILE"), "")
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	return dir
}

// seed is the configuration in the original's README, with the placeholders filled in.
func seed() map[string]string {
	return map[string]string{
		"ENVIRONMENT": "production", "JWT_SECRET_KEY": "Zk3v9QwX7rT1mN8bY5cH2dL6pS0aF4gJ", "JWT_REFRESH_SECRET_KEY": "Hq8sD2fG6jK0lP4oI9uY3tR7eW1qA5zX",
		"ENCRYPTION_KEY": "3q2-7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs=", "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_REGION": "eu-central-1", "EC2_SECURITY_GROUP_ID": "sg-1", "EC2_SUBNET_ID": "subnet-1", "EC2_KEY_PAIR_NAME": "cloudbot-key", "UBUNTU_AMI_ID": "ami-1",
		"CONTROL_PLANE_URL": "https://cloudbot.example", "CORS_ORIGINS": "https://cloudbot.example",
		"STRIPE_SECRET_KEY": "sk_live_x", "STRIPE_PUBLISHABLE_KEY": "pk_live_x",
	}
}

func TestSeedsProductionNeverMakesLocalMachines(t *testing.T) {
	given(t, seed())
	cfg, err := loadConfig()
	if err == nil || strings.Count(err.Error(), "\n") > 3 || strings.Contains(err.Error(), "LOCAL_DEV_MODE=true") || cfg.LocalDevMode {
		t.Errorf("unchanged: got local machines %v, %v, want none and a short refusal", cfg.LocalDevMode, err)
	}
	whole := seed()
	whole["DATABASE_URL"], whole["TRUSTED_PROXIES"] = "postgres://cloudbot@db.example/cloudbot", "10.0.0.0/8"
	given(t, whole)
	if cfg, err = loadConfig(); err != nil || cfg.LocalDevMode {
		t.Errorf("with a database: got local machines %v, %v, want none and no error", cfg.LocalDevMode, err)
	}
	if _, err := loadSecrets(cfg); err != nil {
		t.Error(err)
	}
	if err := cfg.exposed(t.Context(), 0); err != nil {
		t.Error(err)
	}
	delete(whole, "UBUNTU_AMI_ID")
	given(t, whole)
	if cfg, err = loadConfig(); err == nil || strings.Contains(err.Error(), "LOCAL_DEV_MODE") || strings.Count(err.Error(), ";")+strings.Count(err.Error(), "\n") > 1 {
		t.Errorf("without an image: got %v, want a refusal of one part, without LOCAL_DEV_MODE", err)
	}
}

// The token that Prometheus holds must open nothing else.
func TestAdminTokenIsASecretOfItsOwn(t *testing.T) {
	t.Parallel()
	cfg := config{Environment: "production", JWTSecret: seed()["JWT_SECRET_KEY"], JWTRefreshSecret: seed()["JWT_REFRESH_SECRET_KEY"], EncryptionKey: seed()["ENCRYPTION_KEY"]}
	for _, token := range []string{cfg.JWTSecret, cfg.JWTRefreshSecret, cfg.EncryptionKey} {
		cfg.AdminToken = token
		if _, err := loadSecrets(cfg); err == nil || !strings.Contains(err.Error(), "ADMIN_TOKEN is the same as another secret") || strings.Contains(err.Error(), token) {
			t.Errorf("got %v, want a refusal that does not repeat the token", err)
		}
	}
	cfg.AdminToken = "a-token-of-its-own-with-32-characters"
	if _, err := loadSecrets(cfg); err != nil {
		t.Error(err)
	}
}

func TestWhoGetsAShellHere(t *testing.T) {
	for _, c := range []struct {
		environment, host, mode, asked string
		euid                           int
		want                           string // part of the refusal; "": the server starts
		local                          bool
	}{
		{"development", "", "", "", 1000, "", true},
		{"development", "", "", "", 0, "", true},
		{"test", "localhost", "true", "", 1000, "", true},
		{"development", "127.0.0.2", "", "", 1000, "", true},
		{"development", "::1", "", "", 1000, "", true},
		{"development", "::ffff:127.0.0.1", "", "", 1000, "", true},
		{"development", "0.0.0.0", "", "", 1000, "HOST is beyond loopback", true},
		{"development", "::", "", "", 0, "HOST is beyond loopback", true},
		{"test", "192.0.2.1", "true", "", 0, "HOST is beyond loopback", true},
		{"development", "::ffff:192.0.2.1", "", "", 1000, "HOST is beyond loopback", true},
		{"development", "0.0.0.0", "", "true", 1000, "", true},
		{"test", "::", "true", "true", 0, "", true},
		{"development", "0.0.0.0", "false", "", 1000, "", false},
		{"production", "", "", "", 0, "", false},
		{"production", "", "", "true", 1000, "", false},
		{"production", "", "true", "", 0, "GIVE_USERS_A_SHELL_ON_THIS_COMPUTER=true", true},
		{"production", "127.0.0.1", "true", "", 0, "GIVE_USERS_A_SHELL_ON_THIS_COMPUTER=true", true},
		{"production", "127.0.0.1", "true", "", 1000, "LOCAL_DEV_MODE=false", true},
		{"production", "", "true", "true", 1000, "needs the server to run as root", true},
		{"production", "127.0.0.1", "true", "true", 1000, "needs the server to run as root", true},
		{"production", "", "true", "true", 0, "", true},
	} {
		env := map[string]string{
			"ENVIRONMENT": c.environment, "HOST": c.host, "LOCAL_DEV_MODE": c.mode, "GIVE_USERS_A_SHELL_ON_THIS_COMPUTER": c.asked,
			"UBUNTU_AMI_ID": "ami-1", "CONTROL_PLANE_URL": "https://cloudbot.example", "DATABASE_URL": "postgres://db.example/cloudbot", "TRUSTED_PROXIES": "10.0.0.0/8",
		}
		given(t, env)
		cfg, err := loadConfig()
		if err != nil {
			t.Errorf("%+v: got %v, want no error", c, err)
			continue
		}
		if cfg.LocalDevMode != c.local {
			t.Errorf("%+v: got local machines %v, want %v", c, cfg.LocalDevMode, c.local)
		}
		err = cfg.exposed(t.Context(), c.euid)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%+v: got %v, want %q", c, err, c.want)
		}
		var out strings.Builder
		cfg.warnOfShells(slog.New(slog.NewTextHandler(&out, nil)))
		if said := strings.Count(out.String(), "every account has a shell on this computer"); said != map[bool]int{true: 1}[c.local && c.asked == "true"] {
			t.Errorf("%+v: got %d warnings, want %v: %s", c, said, c.local && c.asked == "true", out.String())
		}
	}
}

// If the server is root, each desktop has its own user, so a desktop can read what any user can.
func TestSecretsThatDesktopsCouldRead(t *testing.T) {
	dir, err := os.MkdirTemp("", "cloudbot-secret-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key")
	for mode, want := range map[os.FileMode]string{0o600: "", 0o640: "", 0o644: "chmod 600", 0o444: "chmod 600"} {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(strings.Repeat("k", 40)+"\n"), mode); err != nil {
			t.Fatal(err)
		}
		given(t, map[string]string{"JWT_SECRET_KEY_FILE": file})
		cfg, err := loadConfig()
		if err != nil || cfg.JWTSecret != strings.Repeat("k", 40) {
			t.Fatalf("got %q, %v, want the file's 40 letters", cfg.JWTSecret, err)
		}
		if err := cfg.exposed(t.Context(), 0); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%o: got %v, want %q", mode, err, want)
		}
		cfg.LocalDevMode = false // as with Docker and Kubernetes
		if err := cfg.exposed(t.Context(), 0); err != nil {
			t.Errorf("%o, with machines on EC2: got %v, want no error", mode, err)
		}
	}
}

func TestSecretsFromFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := map[string]string{}
	for _, name := range secretSettings {
		env[name+"_FILE"] = write(name, "nats://of-"+name+"-and-long-enough-for-any-of-them\n")
	}
	given(t, env)
	cfg, err := loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{
		"JWT_SECRET_KEY": cfg.JWTSecret, "JWT_REFRESH_SECRET_KEY": cfg.JWTRefreshSecret, "ENCRYPTION_KEY": cfg.EncryptionKey, "DATABASE_URL": cfg.DatabaseURL,
		"NATS_URL": cfg.NATSURL, "ADMIN_TOKEN": cfg.AdminToken, "AWS_ACCESS_KEY_ID": os.Getenv("AWS_ACCESS_KEY_ID"),
		"AWS_SECRET_ACCESS_KEY": os.Getenv("AWS_SECRET_ACCESS_KEY"), "AWS_SESSION_TOKEN": os.Getenv("AWS_SESSION_TOKEN"),
	} {
		if want := "nats://of-" + name + "-and-long-enough-for-any-of-them"; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for text, want := range map[string]string{"a\n": "a", "a\r\n": "a", "a\n\n": "a\n", " a": " a", "a": "a"} {
		given(t, map[string]string{"JWT_SECRET_KEY_FILE": write("one", text)})
		if cfg, err := loadConfig(); err != nil || cfg.JWTSecret != want {
			t.Errorf("%q: got %q, %v, want %q", text, cfg.JWTSecret, err, want)
		}
	}
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"JWT_SECRET_KEY_FILE": write("secret", "hidden"), "JWT_SECRET_KEY": "x"}, "both set"},
		{map[string]string{"ENCRYPTION_KEY_FILE": filepath.Join(dir, "none")}, "ENCRYPTION_KEY_FILE"},
		{map[string]string{"NATS_URL_FILE": dir}, "NATS_URL_FILE"},
		{map[string]string{"ADMIN_TOKEN_FILE": write("empty", "\n")}, "is empty"},
		{map[string]string{"DATABASE_URL_FILE": write("binary", "hidden\x00")}, "is not text"},
	} {
		given(t, c.env)
		for name, value := range c.env {
			t.Setenv(name, value) // given clears the setting that the file would fill
		}
		if _, err := loadConfig(); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v: got %v, want %q", c.env, err, c.want)
		}
	}
}

// The operator's tools load the settings twice in one process.
func TestSecretFilesOfDotenvAreReadTwice(t *testing.T) {
	given(t, map[string]string{"JWT_SECRET_KEY_FILE": ""}) // loading .env sets both; they are restored afterwards
	if err := errors.Join(os.Unsetenv("JWT_SECRET_KEY"), os.Unsetenv("JWT_SECRET_KEY_FILE"), os.WriteFile("jwt", []byte("from the file\n"), 0o600), os.WriteFile(".env", []byte("JWT_SECRET_KEY_FILE=jwt\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if cfg, err := loadConfig(); err != nil || cfg.JWTSecret != "from the file" || !slices.Contains(cfg.secretFiles, "jwt") {
			t.Errorf("got %q of %q, %v, want the file's text", cfg.JWTSecret, cfg.secretFiles, err)
		}
	}
	t.Setenv("JWT_SECRET_KEY", "of the environment")
	if cfg, err := loadConfig(); err != nil || cfg.JWTSecret != "of the environment" {
		t.Errorf("got %q, %v, want the environment's, which .env never overrides", cfg.JWTSecret, err)
	}
}
