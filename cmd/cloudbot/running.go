package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// running is what a server writes about itself to DATA_DIR/running.json, for the tools beside it.
type running struct {
	PID         int    `json:"pid"`
	DatabaseURL string `json:"database_url,omitempty"` // of a private Postgres
	URL         string `json:"url"`
	AdminURL    string `json:"admin_url"`
	AdminToken  string `json:"admin_token,omitempty"` // made by the server
}

func (c config) runningFile() string { return filepath.Join(c.DataDir, "running.json") }

func (r running) write(cfg config) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(cfg.runningFile(), append(text, '\n'), 0o600)
}

// readRunning returns what the server on the data folder wrote, and reports whether its process is alive.
func readRunning(cfg config) (r running, ok bool) {
	text, err := os.ReadFile(cfg.runningFile())
	if err != nil || json.Unmarshal(text, &r) != nil {
		return r, false
	}
	r.AdminToken = cmp.Or(r.AdminToken, cfg.AdminToken) // the server makes one only if none is set
	return r, !errors.Is(syscall.Kill(r.PID, 0), syscall.ESRCH)
}

// beside returns the server that runs on the data folder, after asking it. Its file alone proves nothing: a dead
// server may have left it, and its process ID may be in use again.
func beside(ctx context.Context, cfg config) (running, bool) {
	r, ok := readRunning(cfg)
	if !ok {
		return r, false
	}
	ctx, cancel := context.WithTimeout(ctx, besideTime)
	defer cancel()
	pid, err := askAdmin(ctx, r, runningPath)
	return r, err == nil && string(pid) == strconv.Itoa(r.PID)
}

// besideTime bounds the question: a server that is starting accepts the connection and does not answer yet.
const besideTime = 3 * time.Second

// askAdmin gets a page of a running server's listener for operators.
func askAdmin(ctx context.Context, r running, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.AdminURL+path, nil)
	if err != nil {
		return nil, err
	}
	if r.AdminToken != "" {
		req.Header.Set("Authorization", "Bearer "+r.AdminToken)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the server: %s: %s", res.Status, text)
	}
	return text, nil
}
