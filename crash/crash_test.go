package crash_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/crash"
)

func bug() error {
	var list []int
	i := len(list)
	list[i]++
	return nil
}

func TestAPanicIsAnError(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("saga: %w", crash.Guard(bug)())
	p := crash.Of(err)
	if p == nil || !strings.Contains(p.Text, "out of range") || !strings.Contains(p.Stack, "crash_test.bug") {
		t.Fatalf("got %v, want an out of range panic in crash_test.bug", err)
	}
	if err := crash.Guard(func() error { panic("what a user typed") })(); strings.Contains(err.Error(), "typed") {
		t.Error(err)
	}
	if err := crash.Guard(func() error { return nil })(); err != nil {
		t.Error(err)
	}
}

func TestLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	func() {
		defer crash.Logged(slog.New(slog.NewTextHandler(&out, nil)), "presence")
		_ = bug()
	}()
	if !strings.Contains(out.String(), "part=presence") || !strings.Contains(out.String(), "crash_test.bug") {
		t.Errorf("got log %s, want part=presence and the stack of crash_test.bug", out.String())
	}
}
