#!/usr/bin/env bash
# Does a JetStream stream (files) compress its messages once its config asks for S2?
# Guess:    an update of the config with Compression S2 is refused, or the blocks written after it are compressed.
# Truth:    the update is accepted, and stream info says S2 at once, but the running server goes on writing blocks
#           without compression. Only after its next start are new blocks compressed. Blocks written before stay as
#           they are, so that a stream that is only added to keeps their size.
# Versions: nats-server 2.15.3 (embedded, a single server), nats.go 1.55.0. Seen on 2026-11-28.
# Source:   nats-server, server/filestore.go: UpdateConfig takes the new config, but the algorithm with which blocks
#           are written is chosen when the store is opened.
# Usage:    needs Go. It removes everything afterwards. Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail
export GOWORK=off GOFLAGS=-mod=mod
command -v go >/dev/null || { echo 'cannot run: no Go'; exit 2; }

dir=$(mktemp -d)
trap 'rm -rf --one-file-system "$dir"' EXIT
trap 'exit 2' INT TERM
mkdir "$dir/go" "$dir/data"
cd "$dir/go"
cat >go.mod <<'MOD'
module finding

go 1.26

require (
	github.com/nats-io/nats-server/v2 v2.15.3
	github.com/nats-io/nats.go v1.55.0
)
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	messages = 40_000 // several blocks
	patience = 30 * time.Second
)

var (
	body    = []byte(strings.Repeat(`{"account":"01M8","name":"garden"},`, 16))
	changed bool
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Println("cannot run:", err)
		os.Exit(2)
	}
	if changed {
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string) error {
	s, js, err := start(dir)
	if err != nil {
		return err
	}
	cfg := jetstream.StreamConfig{Name: "E", Subjects: []string{"e.>"}, Storage: jetstream.FileStorage}
	if _, err := js.CreateStream(ctx, cfg); err != nil {
		return err
	}
	plain, err := publish(ctx, js, dir)
	if err != nil {
		return err
	}
	fmt.Printf("  without compression: %d B a message on the disk\n", plain)
	cfg.Compression = jetstream.S2Compression
	stream, err := js.UpdateStream(ctx, cfg)
	expect(err == nil, "the update to S2 is accepted: %v", err == nil)
	if err != nil {
		return nil
	}
	expect(stream.CachedInfo().Config.Compression == jetstream.S2Compression, "stream info says %v", stream.CachedInfo().Config.Compression)
	running, err := publish(ctx, js, dir)
	if err != nil {
		return err
	}
	expect(running > plain*9/10, "after the update: %d B a message", running)
	s.Shutdown()
	s.WaitForShutdown()
	before := size(dir)
	if s, js, err = start(dir); err != nil {
		return err
	}
	expect(size(dir) > before*9/10, "after a restart, the blocks of before have %d B, of %d", size(dir), before)
	restarted, err := publish(ctx, js, dir)
	if err != nil {
		return err
	}
	expect(restarted < plain/2, "a message after the restart changes the blocks by %d B", restarted)
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func start(dir string) (*server.Server, jetstream.JetStream, error) {
	s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: dir, DontListen: true})
	if err != nil {
		return nil, nil, err
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		return nil, nil, fmt.Errorf("the server did not start")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn)
	return s, js, err
}

// publish returns how many bytes a message adds to the blocks.
func publish(ctx context.Context, js jetstream.JetStream, dir string) (int64, error) {
	before := size(dir)
	for n := 1; n <= messages; n++ {
		if _, err := js.PublishAsync("e.x", body); err != nil {
			return 0, err
		}
		if n%1000 == 0 {
			select {
			case <-js.PublishAsyncComplete():
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
	}
	time.Sleep(3 * time.Second) // the server writes what it buffers
	return (size(dir) - before) / messages, nil
}

// size returns the bytes of all blocks.
func size(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if info, statErr := os.Stat(path); err == nil && statErr == nil && strings.HasSuffix(path, ".blk") {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

// expect prints an observation, and records whether it differs from the head of this file.
func expect(ok bool, format string, args ...any) {
	mark := "as described"
	if !ok {
		mark, changed = "CHANGED", true
	}
	fmt.Printf("  %s (%s)\n", fmt.Sprintf(format, args...), mark)
}
GO
go mod tidy >tidy.log 2>&1 || { cat tidy.log; echo 'cannot run: the packages cannot be had'; exit 2; }
go build -o finding . || { echo 'cannot run: it does not build'; exit 2; }
code=0
./finding "$dir/data" || code=$?
exit "$code"
