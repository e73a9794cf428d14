#!/usr/bin/env bash
# Makes images of PostgreSQL, NATS and Caddy from this computer's own programs, for the test of compose.yaml where no
# registry is reachable. They start as the public images do. Prints POSTGRES_IMAGE, NATS_IMAGE and CADDY_IMAGE.
# Needs what deploy/image/local-bases.sh made, `deploy/prerequisites.sh test`, and caddy.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
postgres=
for bin in /usr/lib/postgresql/{1[6-9],[2-9][0-9]}/bin {/var/cache/cloudbot,.cache}/postgres/bin; do
  if [ -z "$postgres" ] && "$bin/postgres" --version >/dev/null 2>&1; then postgres=$(dirname "$bin"); fi
done
[ -n "$postgres" ] || { echo "no PostgreSQL 16 or newer: run deploy/prerequisites.sh test" >&2; exit 1; }
caddy=$(command -v caddy) || { echo "no caddy: apt-get install caddy" >&2; exit 1; }
CGO_ENABLED=0 go build -trimpath -o "$work/nats-server" github.com/nats-io/nats-server/v2
cp -r "$postgres" "$work/pg"
cp "$caddy" "$work/caddy"
cat >"$work/postgres.sh" <<'SCRIPT'
#!/bin/bash
set -eu
data=/var/lib/postgresql/18/docker
if [ "$(id -u)" = 0 ]; then
  mkdir -p $data && chown -R 65534:65534 /var/lib/postgresql /run/postgresql
  exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" "$@"
fi
if [ ! -s $data/PG_VERSION ]; then
  initdb -D $data -U "$POSTGRES_USER" -A scram-sha-256 -E UTF8 --locale=C --pwfile="$POSTGRES_PASSWORD_FILE"
  echo "host all all all scram-sha-256" >>$data/pg_hba.conf
  echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D $data postgres
fi
exec postgres -D $data -c listen_addresses='*' -c unix_socket_directories=/run/postgresql
SCRIPT
# The programs of the tests have no pg_isready: a server that is up asks for a password, which is an answer.
cat >"$work/pg_isready" <<'SCRIPT'
#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/5432
SCRIPT
chmod 755 "$work/postgres.sh" "$work/pg_isready" && chmod -R a+rX "$work/pg"
cat >"$work/Dockerfile" <<'DOCKERFILE'
FROM localhost/cloudbot-debian AS postgres
COPY pg /opt/postgres
COPY postgres.sh pg_isready /usr/local/bin/
RUN mkdir -p /run/postgresql /var/lib/postgresql
ENV PATH=/opt/postgres/bin:/usr/local/bin:/usr/bin:/bin
ENTRYPOINT ["/usr/local/bin/postgres.sh"]
FROM localhost/cloudbot-debian AS nats
COPY nats-server /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/nats-server"]
FROM localhost/cloudbot-debian AS caddy
COPY caddy /usr/bin/caddy
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
DOCKERFILE
for name in postgres nats caddy; do
  podman build -q --isolation=chroot --pull=never --target "$name" -t "localhost/cloudbot-test-$name" "$work" >&2
done
echo "POSTGRES_IMAGE=localhost/cloudbot-test-postgres NATS_IMAGE=localhost/cloudbot-test-nats CADDY_IMAGE=localhost/cloudbot-test-caddy"
