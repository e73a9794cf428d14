#!/usr/bin/env bash
# Makes base images for `make image` on a Debian computer that reaches no registry, from Debian's packages and this
# computer's own Go and Node. They stand in for the public images that the Dockerfile names: they prove what the
# Dockerfile does, not those images. Prints BASE_NODE and BASE_GO. Needs root, debootstrap and podman.
# LOCAL_TARS=DIR keeps the Debian part there for the next time.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(go env GOROOT) node=$(command -v node) modules=$(npm root -g)
kept=${LOCAL_TARS:-/var/cache/cloudbot/bases}/debian.tar
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ ! -f "$kept" ]; then
  mkdir -p "$(dirname "$kept")"
  echo "fetching Debian's packages" >&2
  debootstrap --variant=minbase --include=ca-certificates,make,libstdc++6,wget bookworm "$work/debian" http://deb.debian.org/debian >"$work/log" 2>&1 ||
    { tail -n 5 "$work/log" >&2; exit 1; }
  tar -C "$work/debian" --exclude ./var/cache/apt --exclude ./dev -cf "$kept.part" . && mv "$kept.part" "$kept"
fi
cat >"$work/Dockerfile" <<DOCKERFILE
FROM localhost/cloudbot-debian AS debian
COPY ca-certificates.crt /etc/ssl/certs/
FROM debian AS node
COPY node /usr/local/bin/node
COPY npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
FROM debian AS go
COPY go /usr/local/go
ENV PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GOPATH=/go
DOCKERFILE
podman import -q "$kept" localhost/cloudbot-debian >&2
# This computer's certificates: a company's own may be among them.
cp /etc/ssl/certs/ca-certificates.crt "$work/"
cp -L "$node" "$work/node"
cp -rL "$modules/npm" "$work/npm"
cp -r "$root" "$work/go"
for name in node go; do
  podman build -q --isolation=chroot --pull=never --target "$name" -t "localhost/cloudbot-base-$name" "$work" >&2
done
echo "BASE_NODE=localhost/cloudbot-base-node BASE_GO=localhost/cloudbot-base-go"
