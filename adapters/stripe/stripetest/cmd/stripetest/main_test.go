package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

// TestRun starts the process's work, reads its line, and ends it.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"-webhook-secret", "whsec_of_a_test"}, write) }()
	line, err := bufio.NewReader(read).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var s settings
	if err := json.Unmarshal(line, &s); err != nil || s.WebhookSecret != "whsec_of_a_test" || s.Prices["pro"] == "" || s.Prices["starter"] == "" || s.Prices["enterprise"] == "" {
		t.Fatalf("the line is %s, %v", line, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/prices/"+s.Prices["pro"], nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.SecretKey)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != http.StatusOK {
		t.Errorf("a call is answered with %d", a.StatusCode)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("it ends with %v", err)
	}
	if err := run(t.Context(), []string{"-no-such-flag"}, io.Discard); err == nil {
		t.Error("an unknown flag is taken")
	}
}
