#!/usr/bin/env bash
# Installs what a development machine lacks, on Debian or Ubuntu: PostgreSQL's server programs
# (needed), and a light X desktop with a VNC server (wanted: without it the desktop is a built-in
# test screen). Elsewhere, or without the right to install, it says what to install.
# Usage: prerequisites.sh            says nothing when nothing is missing
#        prerequisites.sh browser    what the dashboard's tests drive, too
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }
have_postgres() { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

need=() want=() browser=()
have_postgres || need+=(postgresql)
# Xvfb with x11vnc will do where they are there already, but their screen has a fixed size.
have Xvnc || { have Xvfb && have x11vnc; } || want+=(tigervnc-standalone-server)
have openbox || want+=(openbox)
have xterm || want+=(xterm)
have xsetroot || want+=(x11-xserver-utils)
if [ "${1:-}" = browser ]; then
  have "${CHROMIUM:-chromium}" || browser+=(chromium)
  have Xvnc || browser+=(tigervnc-standalone-server) # the tests resize the screen
fi
[ ${#need[@]} -eq 0 ] && [ ${#want[@]} -eq 0 ] && [ ${#browser[@]} -eq 0 ] && exit 0

packages="${need[*]} ${want[*]} ${browser[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if have sudo && sudo -n true 2>/dev/null; then as_root=(sudo -n); else as_root=(false); fi
fi

if have apt-get && [ "${as_root[0]:-}" != false ]; then
  echo "installing: $packages"
  # The package would start a server of its own on install; ours is private and started on demand.
  if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    "${as_root[@]}" mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | "${as_root[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if { "${as_root[@]}" apt-get update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
       apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1; then
    exit 0
  fi
  tail -n 5 "$log" >&2
fi

[ ${#want[@]} -gt 0 ] && echo "not installed, the desktop will be a built-in test screen: ${want[*]}" >&2
if [ ${#need[@]} -gt 0 ]; then
  echo "please install PostgreSQL 15 or newer (Debian, Ubuntu: sudo apt-get install $packages), or set DATABASE_URL" >&2
  [ -n "${DATABASE_URL:-}" ] || exit 1
fi
if [ ${#browser[@]} -gt 0 ]; then
  echo "the dashboard's tests need more: please install ${browser[*]} (a Chrome elsewhere will do: put its path into CHROMIUM)" >&2
  exit 1
fi
exit 0
