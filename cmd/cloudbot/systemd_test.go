package main

import (
	"net"
	"path/filepath"
	"testing"
)

func TestSystemdLearnsOfReadiness(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "notify"), "@cloudbot-test-" + t.TempDir()} { // @: without a file
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", path)
		if err := tellSystemd(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		n, err := l.Read(got)
		if l.Close(); err != nil || string(got[:n]) != "READY=1" {
			t.Errorf("%s: got %q, %v, want READY=1", path, got[:n], err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	if err := tellSystemd(); err == nil {
		t.Error("no socket: got no error, want one")
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := tellSystemd(); err != nil {
		t.Errorf("without systemd: got %v, want no error", err)
	}
}
