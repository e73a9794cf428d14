package secrets

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestDevSecretsAreMadeOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got := make([]Dev, 16)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			var err error
			if got[i], err = LoadDev(dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, d := range got {
		if d != got[0] {
			t.Fatal("two processes got different secrets")
		}
	}
	info, err := os.Stat(filepath.Join(dir, "secrets.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("got %v, %v, want no error and 0o600", info.Mode(), err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Fatalf("left behind: got %v, %v, want no error and 1", left, err)
	}
	d := got[0]
	if err := CheckProduction(map[string]string{"a": d.JWTSecret, "b": d.JWTRefreshSecret, "c": d.EncryptionKey}); err != nil {
		t.Fatalf("the generated secrets are refused: %v", err)
	}
	ring(t, d.EncryptionKey)
	tokensAt(t, at, d.JWTSecret, d.JWTRefreshSecret)
}

func TestBrokenDevSecretsAreNotReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secrets.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadDev(dir); err == nil {
		t.Fatal("read")
	}
}

func TestProductionRefusesWeakSecrets(t *testing.T) {
	t.Parallel()
	const good, other = "q7Vt2mZx9LpR4sKdW8yBnH3cFjG6aTuE", "Zk3wP8rTq1YvM6xSb9JdC4nLf7HgU2eA"
	for name, secret := range map[string]string{
		"empty":              "",
		"31 bytes":           good[:31],
		"default":            "your-super-secret-key-change-in-production",
		"upper case":         "CHANGE-ME-CHANGE-ME-CHANGE-ME-NOW",
		"a password":         "password-password-password-password1",
		"one character":      strings.Repeat("x", 64),
		"second of two":      good + ",short",
		"trailing separator": good + ",",
	} {
		err := CheckProduction(map[string]string{"GOOD_ONE": other, "BAD_ONE": secret})
		switch {
		case err == nil:
			t.Errorf("%s: got no error, want one", name)
		case !strings.Contains(err.Error(), "BAD_ONE") || strings.Contains(err.Error(), "GOOD_ONE"):
			t.Errorf("%s: got %v, want it to name BAD_ONE only", name, err)
		case len(secret) > 8 && strings.Contains(err.Error(), secret):
			t.Errorf("%s: got %v, want no secret in it", name, err)
		}
	}
	if err := CheckProduction(map[string]string{"A": good, "B": other + "," + other}); err != nil {
		t.Errorf("refused: %v", err)
	}
	// One secret in two settings: a leak of one reveals the other.
	for _, b := range []string{good, other + "," + good, " " + good} {
		err := CheckProduction(map[string]string{"ENCRYPTION_KEY": good, "JWT_SECRET_KEY": b})
		if err == nil || !strings.Contains(err.Error(), "ENCRYPTION_KEY and JWT_SECRET_KEY are the same") || strings.Contains(err.Error(), good) {
			t.Errorf("the same secret twice: got %v, want an error, \"ENCRYPTION_KEY and JWT_SECRET_KEY are the same\" in err.Error() and no %q in err.Error()", err, good)
		}
	}
}
