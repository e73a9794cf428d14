package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// askAdmin gets a page of a running server's listener for operators.
func askAdmin(ctx context.Context, r running, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.AdminURL+path, nil)
	if err != nil {
		return nil, err
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
