#!/usr/bin/env bash
# Does Caddy deliver a POST that arrives while its upstream restarts, if lb_try_duration lets it wait?
# Guess:    yes. No connection was made, so nothing of the request was sent, and trying again is safe.
# Truth:    a request without a body waits and is delivered. One with a body gets 502: the first refused connection
#           closes the body. The upstream still gets the head of the request at the next try, and then a body that
#           ends too early ("unexpected EOF"): a server that ignores that error acts on half a body. With
#           buffer_requests the result varies, because the closed buffer returns to a pool that all requests share.
# Versions: Caddy 2.6.2 (Debian 12: 2.6.2-5; Debian 13 has 2.6.2, too). Seen on 2026-11-28.
# Source:   Go, net/http Transport.RoundTrip closes the request's body on errors; caddy,
#           modules/caddyhttp/reverseproxy/reverseproxy.go proxyLoopIteration passes the same body to the next try.
# Usage:    needs Go and caddy 2.6 (apt-get install caddy). It uses free loopback ports, takes seconds, and removes
#           everything afterwards. Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail
export GOWORK=off

dir=$(mktemp -d)
caddy=
trap '[ -z "$caddy" ] || kill "$caddy" 2>/dev/null || true; rm -rf "$dir"' EXIT
trap 'exit 2' INT TERM
cannot() { echo "cannot run: $1"; exit 2; }
command -v go >/dev/null || cannot 'no Go'
command -v caddy >/dev/null || cannot 'no caddy; apt-get install caddy'
command -v curl >/dev/null || cannot 'no curl'

cd "$dir"
cat >main.go <<'GO'
// Command server prints what it reads of each request. With "port" it prints a free port.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	if os.Args[1] == "port" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr().(*net.TCPAddr).Port)
		return
	}
	panic(http.ListenAndServe(os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Printf("%s read %d of %d bytes, error %v\n", r.URL.Path, len(body), max(0, r.ContentLength), err)
	})))
}
GO
printf 'module server\n\ngo 1.26\n' >go.mod
go build -o server . || cannot 'the server does not compile'

front=$(./server port) back=$(./server port)
cat >Caddyfile <<C
{
	admin off
	auto_https off
	debug
}
http://127.0.0.1:$front {
	reverse_proxy 127.0.0.1:$back {
		lb_try_duration 20s
		lb_try_interval 100ms
	}
}
C
HOME=$dir XDG_DATA_HOME=$dir XDG_CONFIG_HOME=$dir caddy run --config Caddyfile --adapter caddyfile >caddy.log 2>&1 &
caddy=$!
for _ in $(seq 100); do ! grep -q 'serving initial configuration' caddy.log || break; sleep 0.1; done
curl -s -m 30 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$front/get" >get & a=$!
curl -s -m 30 -o /dev/null -w '%{http_code}' -X POST "http://127.0.0.1:$front/empty" >empty & b=$!
curl -s -m 30 -o /dev/null -w '%{http_code}' -d '{"a":1}' "http://127.0.0.1:$front/body" >body & c=$!
for path in get empty body; do
  for _ in $(seq 200); do ! grep -q "/$path\".*connection refused" caddy.log || break; sleep 0.1; done
  grep -q "/$path\".*connection refused" caddy.log || cannot "caddy did not try /$path"
done
./server "127.0.0.1:$back" >seen & server=$!
wait $a $b $c || true
kill $server "$caddy"
wait $server "$caddy" 2>/dev/null || true
caddy=
echo "GET: $(cat get), POST without a body: $(cat empty), POST with one: $(cat body)"
sed 's/^/  the upstream: /' seen
[ "$(cat get) $(cat empty) $(cat body)" = '200 200 502' ] && grep -q '^/body read 0 of 7 bytes, error unexpected EOF' seen || { echo 'no longer so'; exit 1; }
echo "as described, with Caddy $(caddy version)"
