package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
)

// checkProxies asks the server on this data folder whether requests reach it through proxies that TRUSTED_PROXIES does
// not list.
func checkProxies(ctx context.Context, cfg config) (string, error) {
	r, ok := readRunning(cfg)
	if !ok {
		return "unknown: no server runs on this data folder", nil
	}
	text, err := askAdmin(ctx, r, "/proxies")
	if err != nil {
		return "", err
	}
	var seen httpapi.Undeclared
	if err := json.Unmarshal(text, &seen); err != nil {
		return "", fmt.Errorf("ask the server about proxies: %w", err)
	}
	if seen.Requests == 0 {
		return "no request came through a proxy that TRUSTED_PROXIES does not list", nil
	}
	return "", fmt.Errorf("%s came through %s, which TRUSTED_PROXIES does not list: its clients share the limits of one address, which refused %d requests",
		plural(int(seen.Requests), "request"), seen.Peer, seen.Limited)
}
