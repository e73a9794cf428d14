#!/usr/bin/env bash
# Which call of the JetStream API must be exported for a mirror of another account's stream?
# Guess:    one export is enough, "$JS.API.CONSUMER.CREATE.<stream>.>", because consumers have had names since
#           nats-server 2.9; and a mirror whose call does not arrive reports it, by its lag or an error.
# Truth:    a mirror of the whole stream calls "$JS.API.CONSUMER.CREATE.<stream>", without a name. A mirror with
#           a filter calls "….<stream>.<name>.<filter>". With the other's export, each stays empty and reports
#           nothing: lag 0, no error. Only "active" shows it: -1 means never active.
# Versions: nats-server 2.15.3, nats.go 1.55.0. Seen on 2026-11-27.
# Source:   nats-server, server/stream.go: setupMirrorConsumer chooses JSApiConsumerCreateExT for a
#           filter and JSApiConsumerCreateT otherwise.
# Usage:    needs Go. It starts servers on free loopback ports, one after the other, and
#           removes everything afterwards. Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail
export GOWORK=off

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 2' INT TERM
cannot() { echo "cannot run: $1"; exit 2; }
command -v go >/dev/null || cannot 'no Go'

cd "$dir"
cat >main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// accounts lets COPY mirror OWNER's stream through one call of the API, whose subject ends in %[2]s.
const accounts = `
listen: "127.0.0.1:-1"
jetstream { store_dir: %[1]q }
accounts {
  OWNER {
    jetstream: enabled
    users: [{user: owner, password: o}]
    exports: [
      {service: "$JS.API.CONSUMER.CREATE.EVENTS%[2]s"}
      {service: "$JS.FC.EVENTS.>"}
      {stream: "copy.>"}
    ]
  }
  COPY {
    jetstream: enabled
    users: [{user: copy, password: c}]
    imports: [
      {service: {account: OWNER, subject: "$JS.API.CONSUMER.CREATE.EVENTS%[2]s"}, to: "OWNER.API.CONSUMER.CREATE.EVENTS%[2]s"}
      {service: {account: OWNER, subject: "$JS.FC.EVENTS.>"}}
      {stream: {account: OWNER, subject: "copy.>"}}
    ]
  }
}
`

const messages = 10

func main() {
	changed := false
	for _, c := range []struct {
		tail, filter string
		want         uint64
	}{
		{"", "", messages},
		{".>", "", 0},
		{"", "e.>", 0},
		{".>", "e.>", messages},
	} {
		info, err := mirror(c.tail, c.filter)
		if err != nil {
			fmt.Println("cannot run:", err)
			os.Exit(2)
		}
		quiet := info.Mirror.Error == nil && info.Mirror.Lag == 0
		ok := info.State.Msgs == c.want && quiet && (c.want > 0 || info.Mirror.Active < 0)
		mark := "as described"
		if !ok {
			mark, changed = fmt.Sprintf("CHANGED, was %d", c.want), true
		}
		fmt.Printf("export %-26s filter %-5q %2d of %d messages, lag %d, active %d, error %v (%s)\n", "CONSUMER.CREATE.EVENTS"+c.tail,
			c.filter, info.State.Msgs, messages, info.Mirror.Lag, info.Mirror.Active, info.Mirror.Error, mark)
	}
	if changed {
		os.Exit(1)
	}
}

// mirror creates a stream and a mirror of it in the other account, and returns the mirror's state once it is
// complete, or after 15 seconds.
func mirror(tail, filter string) (*jetstream.StreamInfo, error) {
	dir, err := os.MkdirTemp(".", "server-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "server.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, accounts, dir, tail), 0o600); err != nil {
		return nil, err
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("the server does not start")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	as := func(user, password string) (jetstream.JetStream, error) {
		conn, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, password))
		if err != nil {
			return nil, err
		}
		return jetstream.New(conn)
	}
	owner, err := as("owner", "o")
	if err != nil {
		return nil, err
	}
	other, err := as("copy", "c")
	if err != nil {
		return nil, err
	}
	if _, err := owner.CreateStream(ctx, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"e.>"}}); err != nil {
		return nil, err
	}
	for range messages {
		if _, err := owner.Publish(ctx, "e.x", nil); err != nil {
			return nil, err
		}
	}
	from := &jetstream.ExternalStream{APIPrefix: "OWNER.API", DeliverPrefix: "copy"}
	stream, err := other.CreateStream(ctx, jetstream.StreamConfig{Name: "EVENTS",
		Mirror: &jetstream.StreamSource{Name: "EVENTS", FilterSubject: filter, External: from}})
	if err != nil {
		return nil, err
	}
	for range 150 {
		if info, err := stream.Info(ctx); err != nil || info.State.Msgs == messages {
			return info, err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return stream.Info(ctx)
}
GO
{ go mod init example.org/finding && go mod edit -go=1.26.0 &&
  timeout 60 go get github.com/nats-io/nats-server/v2/server@v2.15.3 github.com/nats-io/nats.go/jetstream@v1.55.0 &&
  timeout 120 go build -o finding .; } >log 2>&1 || cannot "build: $(tail -3 log)"
rc=0
timeout 120 ./finding || rc=$?
[ "$rc" -le 1 ] || rc=2
exit "$rc"
