#!/usr/bin/env bash
# Does a JetStream stream (files, one replica) work again when its full disk has room again?
# Guess:    the stream stores messages as soon as there is room.
# Truth:    the open stream keeps the error of the first failed write and returns it for every later one: no
#           further publish is acknowledged. The publisher gets no error, only its own timeout; stream info
#           looks normal, and a new stream on the same disk works immediately. A purge is refused with the
#           same old error. A restart of the server helps, and here kept all acknowledged messages. Deleting
#           the stream and creating it again also helps. Only the server's health check and its log name the
#           stream.
# Versions: nats-server 2.15.3 (embedded, a single server), nats.go 1.55.0. Seen on 2026-11-27.
# Source:   nats-server, server/filestore.go: setWriteErr keeps the error, and nothing clears it
#           while the store is open. server/stream.go: after such an error of the store no answer is
#           sent, on purpose; the log has it ("critical write error"). server/monitor.go: healthz.
# Usage:    needs root, for a small file system in memory, and Go. It removes everything afterwards.
#           Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail
export GOWORK=off

cannot() { echo "cannot run: $1"; exit 2; }
[ "$(id -u)" -eq 0 ] || cannot 'mounting a small file system needs root'
command -v go >/dev/null || cannot 'no Go'

dir=$(mktemp -d)
cleanup() {
  ! mountpoint -q "$dir/disk" || umount "$dir/disk" || umount -l "$dir/disk"
  rm -rf --one-file-system "$dir"
}
trap cleanup EXIT
trap 'exit 2' INT TERM
mkdir "$dir/disk" "$dir/go"
mount -t tmpfs -o size=24m,mode=700 finding "$dir/disk" || cannot 'no tmpfs could be mounted'

cd "$dir/go"
cat >main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const patience = 3 * time.Second // for one acknowledgement

var (
	disk    string
	changed bool
	logged  lines
)

// expect prints an observation, and records whether it differs from the head of this file.
func expect(ok bool, format string, args ...any) {
	mark := "as described"
	if !ok {
		mark, changed = "CHANGED", true
	}
	fmt.Printf("  %s (%s)\n", fmt.Sprintf(format, args...), mark)
}

func must(err error) {
	if err != nil {
		fmt.Println("cannot run:", err)
		os.Exit(2)
	}
}

// lines records the server's error log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Errorf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf(format, v...))
}
func (l *lines) Fatalf(format string, v ...any) { l.Errorf(format, v...) }
func (*lines) Noticef(string, ...any)           {}
func (*lines) Warnf(string, ...any)             {}
func (*lines) Debugf(string, ...any)            {}
func (*lines) Tracef(string, ...any)            {}

func (l *lines) with(word string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, word) {
			n++
		}
	}
	return n
}

// start starts a server on loopback whose files are on the small disk.
func start() (*server.Server, *nats.Conn, jetstream.JetStream) {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, NoSigs: true,
		JetStream: true, StoreDir: filepath.Join(disk, "store"),
		JetStreamMaxStore: 1 << 30, JetStreamMaxMemory: 1 << 20, // the disk is to be full first
	})
	must(err)
	s.SetLogger(&logged, false, false)
	s.Start()
	if !s.ReadyForConnections(20 * time.Second) {
		must(errors.New("the server does not take connections"))
	}
	nc, err := nats.Connect(s.ClientURL())
	must(err)
	js, err := jetstream.New(nc)
	must(err)
	return s, nc, js
}

func stop(s *server.Server, nc *nats.Conn) {
	nc.Close()
	s.Shutdown()
	s.WaitForShutdown()
}

func create(js jetstream.JetStream, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage, Replicas: 1,
	})
	must(err)
}

func publish(js jetstream.JetStream, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := js.Publish(ctx, name, make([]byte, 32<<10))
	return err
}

// publishes tries several times, and returns how many were acknowledged and the error of the others.
func publishes(js jetstream.JetStream, name string, times int) (stored int, last error) {
	for range times {
		if err := publish(js, name); err != nil {
			last = err
		} else {
			stored++
		}
	}
	return stored, last
}

func count(js jetstream.JetStream, name string) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, name)
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.Msgs, nil
}

func room() int64 {
	var at syscall.Statfs_t
	must(syscall.Statfs(disk, &at))
	return int64(at.Bavail) * at.Bsize >> 10
}

// said returns an error's text without this machine's path, or "no error".
func said(err error) string {
	if err == nil {
		return "no error"
	}
	return short(err.Error())
}

func short(s string) string { return strings.ReplaceAll(s, disk, "DISK") }

func filler() string { return filepath.Join(disk, "filler") }

// fill leaves little room, publishes until one publish is not acknowledged, and then frees the room. It returns how
// many were acknowledged.
func fill(js jetstream.JetStream, name string) int {
	f, err := os.Create(filler())
	must(err)
	for err == nil {
		_, err = f.Write(make([]byte, 4<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		must(err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	must(err)
	must(f.Truncate(size - 256<<10))
	must(f.Close())
	fmt.Printf("the disk is nearly full: %d KiB left\n", room())
	stored := 0
	for ; stored < 100; stored++ {
		if err = publish(js, name); err != nil {
			break
		}
	}
	expect(err != nil, "publishes to %s: %d acknowledged, then: %s; %d KiB left", name, stored, said(err), room())
	must(os.Remove(filler()))
	fmt.Printf("there is room again: %d KiB\n", room())
	return stored
}

func main() {
	disk = os.Args[1]
	s, nc, js := start()
	create(js, "ONE")
	must(publish(js, "ONE"))
	acked := 1 + fill(js, "ONE")

	stored, err := publishes(js, "ONE", 4)
	expect(stored == 0, "of 4 publishes to ONE %d were acknowledged: %s", stored, said(err))
	n, err := count(js, "ONE")
	expect(err == nil, "stream info of ONE: %s, %d messages", said(err), n)
	create(js, "TWO")
	stored, err = publishes(js, "TWO", 4)
	expect(stored == 4, "of 4 publishes to a new stream %d were acknowledged: %s", stored, said(err))
	health := s.Healthz(nil)
	expect(health.StatusCode == 503 && strings.Contains(health.Error, "ONE"),
		"the server's health: %d, %s", health.StatusCode, short(health.Error))
	told := logged.with("critical write error")
	expect(told > 0, "the server's log: %d lines with \"critical write error\"", told)

	fmt.Println("the server is restarted")
	stop(s, nc)
	s, nc, js = start()
	n, err = count(js, "ONE")
	expect(err == nil && n >= uint64(acked), "stream info of ONE: %s, %d messages; %d had been acknowledged", said(err), n, acked)
	stored, err = publishes(js, "ONE", 4)
	expect(stored == 4, "of 4 publishes to ONE %d were acknowledged: %s", stored, said(err))

	fill(js, "ONE")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	one, err := js.Stream(ctx, "ONE")
	must(err)
	err = one.Purge(ctx)
	stored, perr := publishes(js, "ONE", 2)
	expect(err != nil, "a purge of ONE: %s", said(err))
	expect(stored == 0, "of 2 publishes after it %d were acknowledged: %s", stored, said(perr))
	must(js.DeleteStream(ctx, "ONE"))
	create(js, "ONE")
	stored, err = publishes(js, "ONE", 4)
	expect(stored == 4, "ONE deleted and made again: of 4 publishes %d were acknowledged: %s", stored, said(err))
	stop(s, nc)
	if changed {
		os.Exit(1)
	}
}
GO
{ go mod init example.org/finding && go mod edit -go=1.26.0 &&
  timeout 60 go get github.com/nats-io/nats-server/v2/server@v2.15.3 github.com/nats-io/nats.go/jetstream@v1.55.0 &&
  timeout 100 go build -o finding .; } >"$dir/log" 2>&1 || cannot "build: $(tail -3 "$dir/log")"
echo 'nats-server 2.15.3, nats.go 1.55.0'
rc=0
timeout 100 ./finding "$dir/disk" || rc=$?
[ "$rc" -le 1 ] || rc=2
exit "$rc"
