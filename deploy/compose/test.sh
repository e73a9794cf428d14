#!/usr/bin/env bash
# Runs compose.yaml with the image of `make image` and plays the main user story on it: as an ordinary user, with a
# read-only root, against PostgreSQL and three NATS servers in containers of their own. Called by `make image-test`.
# Needs root, podman, podman-compose and curl. Machines come from our own small EC2 server on this computer.
#   IMAGE=name:tag    the image to test; default: it is built
#   BASES=local       where no registry is reachable: images from this computer's own programs
set -euo pipefail
cd "$(dirname "$0")/../.."
export IMAGE=${IMAGE:-} http=127.0.0.1:8088 project=cloudbot-test
work=$(mktemp -d)
ec2=
step() { echo "== $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
compose() { (cd "$work/compose" && podman-compose -p $project "$@" 2>&1); }
of() { echo "${project}_$1_1"; }
logs() { for s in cloudbot-1 cloudbot-2 caddy postgres nats-1; do echo "--- $s"; podman logs --tail 15 "$(of $s)" 2>&1 || true; done; }
finish() {
  code=$?
  [ $code = 0 ] || logs >&2
  compose down -v -t 5 >"$work/down" || true
  podman network rm -f "${project}_default" >/dev/null 2>&1 || true
  [ -z "$ec2" ] || { kill "$ec2" && wait "$ec2"; } 2>/dev/null || true
  rm -rf "$work"
  exit $code
}
await() { # await SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "waited too long for $what"
    sleep 0.5
  done
}
address() { podman inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(of "$1")"; }
ready() { curl -sf -m 5 -o "$work/ready" "http://$(address "$1"):8000/ready"; }
trap finish EXIT

# Where systemd does not manage podman's groups, and where the limits are lower than podman's defaults.
if [ ! -d /run/systemd/system ]; then
  printf '[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=1024:1024"]\n[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="none"\n' >"$work/containers.conf"
  export CONTAINERS_CONF=$work/containers.conf
fi

if [ -z "$IMAGE" ]; then
  step "building the image"
  IMAGE=localhost/cloudbot:test make --no-print-directory image >"$work/build" 2>&1 || { tail -n 30 "$work/build" >&2; fail "the build"; }
  export IMAGE=localhost/cloudbot:test
fi
[ "${BASES:-}" != local ] || for image in $(deploy/compose/local-images.sh); do export "$image"; done

# The network first: its address on this computer is where the replicas reach our EC2 server.
podman network create "${project}_default" >/dev/null
gateway=$(podman network inspect "${project}_default" | sed -n 's/.*"gateway": "\(.*\)".*/\1/p' | head -1)

step "starting PostgreSQL, three NATS servers, two replicas and Caddy"
cp -r deploy/compose "$work/compose" && rm -rf "$work/compose/secrets"
echo AKIATEST >"$work/id"
mkdir -p "$work/compose/secrets" && cp "$work/id" "$work/compose/secrets/aws-access-key-id" && cp "$work/id" "$work/compose/secrets/aws-secret-access-key"
"$work/compose/secrets.sh"
cat >"$work/compose/.env" <<SETTINGS
IMAGE=$IMAGE
SITE=http://127.0.0.1
CONTROL_PLANE_URL=http://$http
HTTP_PORT=$http
HTTPS_PORT=127.0.0.1:8443
SIGNUP=open
AWS_REGION=eu-central-1
AWS_ENDPOINT_URL=http://$gateway:4599
UBUNTU_AMI_ID=ami-0123456789abcdef0
EC2_SUBNET_ID=subnet-a,subnet-b
EC2_SECURITY_GROUP_ID=sg-1
ASSETS_DIR=
MAX_INSTANCES_TOTAL=
SETTINGS
for name in POSTGRES_IMAGE NATS_IMAGE CADDY_IMAGE; do [ -z "${!name:-}" ] || echo "$name=${!name}" >>"$work/compose/.env"; done
compose up -d >"$work/up" || { tail -n 20 "$work/up" >&2; fail "podman-compose up"; }

step "starting our small EC2 server"
CGO_ENABLED=0 go build -trimpath -o bin/ec2test ./adapters/ec2/ec2test/cmd/ec2test
await 60 "the network's address on this computer" sh -c "ip -4 addr show | grep -q 'inet $gateway/'"
bin/ec2test -listen "$gateway:4599" -dir "$work/ec2" -boot 300ms -guest bin/cloudbot-guest >"$work/ec2.log" 2>&1 &
ec2=$!

for replica in cloudbot-1 cloudbot-2; do await 120 "$replica to be ready" ready $replica; done
for replica in cloudbot-1 cloudbot-2; do await 60 "$replica to be healthy" podman healthcheck run "$(of $replica)"; done
await 30 "Caddy" curl -sf -m 5 "http://$http/health"
echo "both replicas are ready and healthy: $(podman exec "$(of cloudbot-1)" /app/cloudbot health)"
podman exec "$(of cloudbot-1)" /app/cloudbot version

step "what the containers may do"
for replica in cloudbot-1 cloudbot-2; do
  pid=$(podman inspect -f '{{.State.Pid}}' "$(of $replica)")
  uid=$(awk '/^Uid:/ { print $2 }' /proc/"$pid"/status) caps=$(awk '/^CapEff:/ { print $2 }' /proc/"$pid"/status)
  root=$(podman inspect -f '{{.HostConfig.ReadonlyRootfs}}' "$(of $replica)")
  echo "$replica: user $uid, capabilities $caps, read-only root $root"
  [ "$uid $caps $root" = "65532 0000000000000000 true" ] || fail "$replica has more rights than it needs"
  ! podman exec -e DATA_DIR=/elsewhere "$(of $replica)" /app/cloudbot doctor >"$work/doctor" 2>&1 || fail "doctor says that a folder outside /data is writable"
  grep -q 'BAD *data folder.*/elsewhere' "$work/doctor" || { cat "$work/doctor" >&2; fail "doctor does not say that /elsewhere cannot be written"; }
done
open=$(podman ps --filter "label=io.podman.compose.project=$project" --format '{{.Names}} {{.Ports}}' | awk 'NF > 1' | cut -d' ' -f1 | sort -u)
[ "$open" = "$(of caddy)" ] || fail "ports are open of: $open"
for arch in amd64 arm64; do echo "guest for $arch: $(curl -sf "http://$http/assets/cloudbot-guest-linux-$arch.sha256")"; done
[ "$(for arch in amd64 arm64; do curl -sf "http://$http/assets/cloudbot-guest-linux-$arch.sha256" | cut -d' ' -f1; done | sort -u | wc -l)" = 2 ] || fail "the guests of two architectures are the same program"
replicated=$(podman exec "$(of nats-1)" wget -q -O - 'http://127.0.0.1:8222/jsz?streams=1&config=1' | grep -c '"num_replicas": 3' || true)
echo "streams with three replicas, of those on nats-1: $replicated"
[ "$replicated" -ge 4 ] || fail "the streams are not replicated"

play() {
  CLOUDBOT_URL=http://$http make --no-print-directory story >"$work/story" 2>&1 || { tail -n 40 "$work/story" >&2; fail "the story"; }
  echo "story: $(grep -c '^ *> ' "$work/story") commands, $(grep -E '^ok ' "$work/story" | xargs)"
}
step "the story, through Caddy"
play

step "nothing is written outside /data"
for replica in cloudbot-1 cloudbot-2; do
  changed=$(podman diff "$(of $replica)" | grep -vE '^[AC] /(run(/secrets.*)?|etc(/(hosts|hostname|resolv.conf|mtab|passwd|group))?|dev|proc|sys|tmp|var(/tmp)?)$' || true)
  echo "$replica: changed files outside /data: $(printf %s "$changed" | grep -c . || true); in /data: $(find "$(podman volume inspect -f '{{.Mountpoint}}' "${project}_$replica")" -type f | wc -l)"
  [ -z "$changed" ] || fail "$replica changed: $changed"
  root=/proc/$(podman inspect -f '{{.State.Pid}}' "$(of $replica)")/root # podman mounts an empty /tmp in memory
  temporary=$(find "$root/tmp" "$root/var/tmp" -type f)
  [ -z "$temporary" ] || fail "$replica wrote $temporary"
done

step "SIGTERM drains: requests through Caddy while cloudbot-1 stops"
touch "$work/on"
(while [ -e "$work/on" ]; do curl -s -m 10 -o /dev/null -w '%{http_code}\n' "http://$http/api/auth/me"; done >"$work/codes") &
loop=$!
began=$SECONDS
podman stop -t 30 "$(of cloudbot-1)" >/dev/null
took=$((SECONDS - began))
rm "$work/on" && wait $loop
code=$(podman inspect -f '{{.State.ExitCode}}' "$(of cloudbot-1)")
echo "stopped in $took s with exit code $code; answers meanwhile: $(sort "$work/codes" | uniq -c | xargs)"
[ "$code" = 0 ] || fail "cloudbot-1 did not end in order"
[ "$(sort -u "$work/codes")" = 401 ] || fail "an answer was not 401, which a request without a token gets"
podman start "$(of cloudbot-1)" >/dev/null
await 60 "cloudbot-1 to be ready again" ready cloudbot-1

step "the story again, with cloudbot-2 killed"
podman stop -t 0 "$(of cloudbot-2)" >/dev/null # at once, with SIGKILL
await 10 "cloudbot-2 to be dead" sh -c "[ \$(podman inspect -f '{{.State.Running}}' $(of cloudbot-2)) = false ]"
play
podman start "$(of cloudbot-2)" >/dev/null
await 60 "cloudbot-2 to be ready again" ready cloudbot-2

step "log and stream"
for replica in cloudbot-1 cloudbot-2; do echo "$replica: $(podman exec "$(of $replica)" /app/cloudbot verify | xargs)"; done
echo "launches at EC2: $(curl -sf http://$gateway:4599/_test/ledger | grep -o '"action":"RunInstances"' | wc -l); machines that still run: $(curl -sf http://$gateway:4599/_test/machines | grep -o '"state":"running"' | wc -l)"
echo "PASSED"
