package ec2test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func call(t *testing.T, s *Server, action string, more ...string) {
	t.Helper()
	form := url.Values{"Action": {action}, "Version": {version}}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	header := http.Header{"Authorization": {"AWS4-HMAC-SHA256 Credential=a/b/c/ec2/aws4_request, SignedHeaders=host, Signature=x"}, "X-Amz-Date": {time.Now().UTC().Format("20060102T150405Z")}}
	if out := s.serve(header, []byte(form.Encode())); out.status != http.StatusOK {
		t.Fatalf("%s: got %s, want %v", action, out.body, http.StatusOK)
	}
}

// A guest runs as long as its machine does, and after a restart finds the user-data and its own files.
func TestGuestFollowsItsMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := New(Config{Guest: Guest{
		Dir: dir, Command: []string{"/bin/sh", "-c", `trap 'echo bye >>words; exit' TERM; cat told >>words; while :; do sleep 0.05; done`},
		Prepare: func(m Machine, dir string) error {
			return os.WriteFile(filepath.Join(dir, "told"), fmt.Appendf(nil, "%s boot %d\n", m.Launch.UserData, m.Boots), 0o600)
		},
	}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	call(t, s, actRun, "ImageId", "ami-1", "MinCount", "1", "MaxCount", "1", "UserData", "aGVsbG8=")
	id := s.Machines()[0].ID
	words := func(want string) {
		t.Helper()
		for end := time.Now().Add(60 * time.Second); ; {
			text, _ := os.ReadFile(filepath.Join(dir, id, "words"))
			if strings.Join(strings.Fields(string(text)), " ") == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the guest said %q, not %q", text, want)
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	words("hello boot 1")
	call(t, s, actStop, "InstanceId.1", id)
	words("hello boot 1 bye")
	call(t, s, actStart, "InstanceId.1", id)
	words("hello boot 1 bye hello boot 2")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	words("hello boot 1 bye hello boot 2 bye")
}
