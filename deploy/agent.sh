#!/usr/bin/env bash
# Installs the real agent, OpenClaw with a Node of its own, for desktops on this computer. See --help.
set -euo pipefail
umask 022 # the desktops' users read it
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
agent.sh installs OpenClaw, with a Node of its own, for desktops on this computer, and the packages that it works on a
desktop with.

Usage:
  agent.sh [--place DIR]             install it, or upgrade it to the version that this clone pins
  agent.sh --remove [--place DIR]    remove it; the packages stay

  --place DIR   where to [/var/cache/cloudbot/agent for root, because the desktops' users cannot enter
                root's folders; otherwise .cache/agent of this clone]. The server finds only these two
                by itself: for another one set LOCAL_AGENT=DIR/current/bin/openclaw
  --help        print this

The versions are in guest/install/pinned. Each is installed in a folder of its own, and DIR/current leads to the latest.
Running desktops keep theirs until they stop.
TEXT
}

die() { echo "make agent: $*" >&2; exit 1; }

place='' remove=
while [ $# -gt 0 ]; do
  case "$1" in
    --place) [ $# -ge 2 ] || die "$1 needs a value; see --help"; place=$2; shift 2 ;;
    --remove) remove=yes; shift ;;
    --help | -h) usage; exit 0 ;;
    *) die "unknown option $1; see --help" ;;
  esac
done
if [ -z "$place" ]; then
  place=$PWD/.cache/agent
  [ "$(id -u)" -ne 0 ] || place=/var/cache/cloudbot/agent
fi

openclaw='' node='' npm=''
. guest/install/pinned
name=openclaw-$openclaw-node-$node
megabytes=900        # it takes
spare=500            # and npm's own cache meanwhile

# in_use FOLDER: a process runs its Node.
in_use() { { readlink /proc/[0-9]*/exe 2>/dev/null || true; } | grep -qF "$1/"; }

# only one at a time: two would remove each other's folders
lock() {
  command -v flock >/dev/null || return 0
  exec 9>"$place/.lock"
  flock -n 9 || die "another one runs for $place: wait for it"
}

if [ -n "$remove" ]; then
  [ -d "$place" ] || { echo "There is no agent in $place."; exit 0; }
  lock
  in_use "$(readlink -f "$place")" && die "desktops use the agent in $place: stop them first"
  rm -rf "${place:?}"/openclaw-*-node-* "$place"/.new-* "$place/current" # DIR may have other files
  rm -f "$place/.lock"
  rmdir "$place" 2>/dev/null || echo "Other files stay in $place."
  echo "Removed the agent from $place. Desktops on this computer get the demo agent when they start."
  exit 0
fi

deploy/prerequisites.sh agent

there() { [ "$(readlink "$place/current" 2>/dev/null)" = "$name" ] && "$place/current/bin/node" --version >/dev/null 2>&1 && [ -f "$place/current/bin/openclaw" ]; }
if there; then
  echo "OpenClaw $openclaw is installed, in $place. Desktops use it when they start."
  exit 0
fi

command -v npm >/dev/null || die "npm is missing: install Node 20.19 or newer with npm"
mkdir -p "$place" 2>/dev/null && [ -w "$place" ] || die "$place is not writable: use --place"
place=$(cd "$place" && pwd)
lock
rm -rf "$place"/.new-*                       # of a run that was killed
free=$(($(df -Pk "$place" | awk 'NR == 2 { print $4 }') / 1024))
[ "$free" -ge $((megabytes + spare)) ] || die "$place has $free MB free and needs $((megabytes + spare)): free some, or use --place"

echo "Installing OpenClaw $openclaw and Node $node from npm in $place."
echo "It takes a minute or two, and $megabytes MB of disk ($free MB are free)."
new=$(mktemp -d "$place/.new-XXXXXX") log=$(mktemp)
trap 'rm -rf "$new" "$log"' EXIT
exec 3>&2
trap 'echo >&3; echo "make agent: interrupted; nothing was installed" >&3; exit 130' INT TERM

# step TITLE COMMAND...
step() {
  local title=$1 began=$SECONDS
  shift
  printf '  %-24s ' "$title"
  if "$@" >"$log" 2>&1 9>&-; then
    echo "$((SECONDS - began)) s"
    return
  fi
  echo "failed after $((SECONDS - began)) s" >&2
  { grep -v '^npm warn' "$log" || true; } | tail -n 12 | sed 's/^/    /' >&2
  die "nothing was installed; the lines above say why. If the network or npm's registry failed, run make agent again; behind a proxy set https_proxy first"
}

# npm never ends a download that stalls, whatever its own timeouts. A second try continues with what is in its cache.
fetch() {
  local patience status=0
  for patience in 240 480 960; do
    timeout --foreground -k 5 "$patience" npm install --global --prefix "$new" --no-audit --no-fund --no-update-notifier --loglevel warn \
      --fetch-retries 3 --fetch-timeout 60000 "$@" && return || status=$?
    [ "$status" -eq 124 ] || [ "$status" -eq 137 ] || return "$status"
    printf 'stalled, trying again … ' >&3
    echo "no end within $patience s"
  done
  return "$status"
}
# npm's package node is a script that installs this one, and newer npm does not run it.
fetch_node() {
  local arch=x64
  [ "$(uname -m)" = aarch64 ] && arch=arm64
  fetch --ignore-scripts "node-linux-$arch@$node" && rm -rf "$new/lib/node_modules/node-linux-$arch"/{include,share}
}
try() {
  local said
  said=$("$new/bin/openclaw" --version) && echo "$said" && case "$said" in *"$openclaw"*) ;; *) echo "want version $openclaw"; false ;; esac
}

step "Node $node" fetch_node
export PATH="$new/bin:$PATH"                 # OpenClaw's own scripts need its Node
step "npm $npm" fetch "npm@$npm"
step "OpenClaw $openclaw" fetch --allow-scripts=openclaw "openclaw@$openclaw" # newer npm runs only the scripts of packages named
step "Checking that it runs" try
chmod 755 "$new" && chmod -R a+rX "$new"

rm -rf "${place:?}/$name"                    # not current, or it would be there
mv "$new" "$place/$name"
ln -s "$name" "$place/.new-current" && mv -T "$place/.new-current" "$place/current"
for old in "$place"/openclaw-*-node-*; do
  [ "$old" = "$place/$name" ] || in_use "$old" || rm -rf "$old"
done
echo "OpenClaw $openclaw is installed in $SECONDS s. Desktops use it when they start: stop and start a running one."
