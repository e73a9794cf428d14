#!/usr/bin/env bash
# Builds the container image. Called by `make image`, which passes VERSION, COMMIT and COMMITTED.
#   IMAGE=name:tag         default: cloudbot:VERSION
#   BASE_NODE=… BASE_GO=…  other base images than the Dockerfile's
#   BASES=local            base images from this computer's own Go and Node, with podman, where no registry is
#                          reachable. It also uses this computer's caches of modules and compiled packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
image=${IMAGE:-cloudbot:$VERSION}
tool=$(command -v podman || command -v docker) || { echo "make image needs podman or docker: install one of them" >&2; exit 1; }
args=(--build-arg "VERSION=$VERSION" --build-arg "COMMIT=${COMMIT:-}" --build-arg "COMMITTED=${COMMITTED:-}")
if [ "${BASES:-}" = local ]; then
  for base in $(deploy/image/local-bases.sh); do export "$base"; done
  args+=(--isolation=chroot --pull=never --volume "$(go env GOMODCACHE):/go/pkg/mod" --volume "$(go env GOCACHE):/root/.cache/go-build")
fi
for name in BASE_NODE BASE_GO; do
  [ -z "${!name:-}" ] || args+=(--build-arg "$name=${!name}")
done
# The times in the image are the commit's, so that the same commit builds the same layers.
[ -z "${COMMITTED:-}" ] || export SOURCE_DATE_EPOCH=$(date -d "$COMMITTED" +%s)
case $tool in
  *podman) args+=(--format docker) && [ -z "${SOURCE_DATE_EPOCH:-}" ] || args+=(--timestamp "$SOURCE_DATE_EPOCH") ;; # the OCI format has no health check
esac
"$tool" build "${args[@]}" -t "$image" .
echo "built $image"
