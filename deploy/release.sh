#!/usr/bin/env bash
# Builds the archives of a release in ./release: one for each architecture, a list of the parts (SBOM) of each, and
# SHA256SUMS. Called by `make release`, which passes VERSION, COMMITTED and GOBUILD and has built the dashboard.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
seconds=$(date -d "$COMMITTED" +%s)
rm -rf release && mkdir release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for arch in amd64 arm64; do
  echo "building the programs for linux $arch"
  GOOS=linux GOARCH=$arch eval "$GOBUILD -o $work/$arch/cloudbot ./cmd/cloudbot"
  GOOS=linux GOARCH=$arch eval "$GOBUILD -o $work/$arch/cloudbot-guest ./cmd/cloudbot-guest"
done
npm sbom --prefix web --sbom-format cyclonedx --omit dev --package-lock-only >"$work/npm.json"

for arch in amd64 arm64; do
  name=cloudbot-$VERSION-linux-$arch
  folder=$work/$name
  mkdir -p "$folder/bin"
  cp "$work/$arch/cloudbot" "$folder/bin/"
  for guest in amd64 arm64; do cp "$work/$guest/cloudbot-guest" "$folder/bin/cloudbot-guest-linux-$guest"; done
  # Only what is in the repository: no notes, no settings of this computer.
  git ls-files -z docs .env.example LICENSE README.md deploy/start.sh deploy/iam-policy.json deploy/{systemd,nginx,caddy,compose} |
    while IFS= read -r -d '' file; do
      case $file in *_test.go | */test.sh | */local-images.sh) continue ;; esac
      mkdir -p "$folder/$(dirname "$file")" && cp "$file" "$folder/$file"
    done
  deploy/pack.sh "$folder" "$seconds"
  mv "$folder.tar.gz" release/
  boms=()
  for program in "$arch/cloudbot" amd64/cloudbot-guest arm64/cloudbot-guest; do
    go tool -modfile=tools/sbom/go.mod cyclonedx-gomod bin -json -std -noserial -notimestamp -output-version 1.5 -version "$VERSION" \
      -output "$work/${program/\//-}.json" "$work/$program" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    boms+=("$work/${program/\//-}.json")
  done
  node deploy/sbom.mjs "$name" "$VERSION" "$COMMITTED" "${boms[@]}" "$work/npm.json" >"release/$name.cdx.json"
done
(cd release && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
echo "built, in ./release:"
cat release/SHA256SUMS
