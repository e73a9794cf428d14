package install

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// file returns a file of the computer, and its mode; "" and 0: there is none.
func (c *computer) file(t *testing.T, path string) (string, fs.FileMode) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.root, path))
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(c.root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text), st.Mode()
}

func TestSudoFollowsTheSetting(t *testing.T) {
	t.Parallel()
	c := working(t)
	boot := func(off bool) *Installer {
		t.Helper()
		c.ran = nil
		i := c.installer(t, func(cfg *Config) { cfg.NoSudo = off })
		if _, _, err := run(t, i); err != nil {
			t.Fatal(err)
		}
		return i
	}
	given := func(when string) {
		t.Helper()
		rules, mode := c.file(t, sudoersFile)
		if !strings.Contains(rules, "\ncloudbot ALL=(ALL) NOPASSWD:ALL\n") || mode != 0o440 {
			t.Errorf("%s: got %q of mode %v, want all rights, 0440", when, rules, mode)
		}
		if unit, _ := c.file(t, gainFile); unit != "[Service]\nNoNewPrivileges=no\n" {
			t.Errorf("%s: got %q, want the agent's unit to allow sudo", when, unit)
		}
	}
	none := func(when string) {
		t.Helper()
		for _, file := range []string{sudoersFile, gainFile, filepath.Dir(gainFile)} {
			if _, err := os.Lstat(filepath.Join(c.root, file)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got %s %v, want none", when, file, err)
			}
		}
	}
	boot(false)
	given("the first boot")
	if c.did("visudo -c -q -f") != 1 || c.did("install --no-install-recommends sudo") != 1 {
		t.Errorf("ran %q, want sudo installed, and its rules checked once", c.ran)
	}
	boot(false)
	if len(c.ran) != 0 {
		t.Errorf("the second boot: ran %q, want nothing", c.ran)
	}
	// The operator decides otherwise for this machine.
	i := boot(true)
	none("off")
	if c.did("daemon-reload") != 1 || !i.Done(Agent) {
		t.Errorf("off: ran %q and done %v, want the units read again, and done", c.ran, i.Done(Agent))
	}
	// The user was root, and put the rules back: the next boot removes them again.
	if err := putFile(filepath.Join(c.root, sudoersFile), []byte("cloudbot ALL=(ALL) NOPASSWD:ALL\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	boot(true)
	none("off again")
	boot(false)
	given("on again")
}

// Faulty rules would disable sudo for root's own tools, too.
func TestFaultySudoRulesStayOut(t *testing.T) {
	t.Parallel()
	c := working(t)
	c.fail = func(line string) error {
		if strings.HasPrefix(line, "visudo -c") {
			if rules, _ := c.file(t, sudoersTry); rules != sudoersText {
				t.Errorf("checked %q, want %q", rules, sudoersText)
			}
			return errors.New("syntax error")
		}
		return nil
	}
	reached, _, err := run(t, c.installer(t, nil))
	if err == nil || !strings.Contains(err.Error(), "sudo") || len(reached) != 3 {
		t.Errorf("got %v %v, want an error about sudo, and a machine that works otherwise", reached, err)
	}
	for _, file := range []string{sudoersFile, gainFile, sudoersTry} {
		if text, _ := c.file(t, file); text != "" {
			t.Errorf("got %s with %q, want none", file, text)
		}
	}
}

// Where the operator wants no sudo, no program of the user's runs before it is gone, as in an image that has it.
func TestSudoGoesBeforeTheDesktopStarts(t *testing.T) {
	t.Parallel()
	c := working(t)
	if _, _, err := run(t, c.installer(t, nil)); err != nil {
		t.Fatal(err)
	}
	i := c.installer(t, func(cfg *Config) { cfg.NoSudo = true })
	if i.Done(Desktop) {
		t.Error("got the desktop done while sudo is there, want it not done")
	}
	failed := false
	c.fail = func(line string) error { // once more often than a step is tried that the machine can do without
		if strings.Contains(line, "daemon-reload") && c.did("daemon-reload") <= optionalTries {
			failed = true
			return errors.New("no answer")
		}
		return nil
	}
	c.ran = nil
	err := i.Run(t.Context(), func(Progress) {}, func(m Milestone) {
		if !i.Done(m) {
			t.Errorf("%s: got it reached before sudo was removed, want after", m)
		}
		if rules, _ := c.file(t, sudoersFile); rules != "" {
			t.Errorf("%s: got %q, want sudo removed before", m, rules)
		}
	})
	if err != nil || !failed {
		t.Errorf("got %v and failed %v, want a step that is tried until it works", err, failed)
	}
}
