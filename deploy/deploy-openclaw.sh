#!/usr/bin/env bash
# Builds OpenClaw's package and publishes it among the control plane's assets: machines launched after
# that install it. See --help.
set -euo pipefail

usage() {
  cat <<'TEXT'
deploy-openclaw.sh builds OpenClaw's package and publishes it as the asset openclaw.tgz.

Usage:
  deploy-openclaw.sh [--source DIR] --to s3://BUCKET[/PREFIX] | --to DIR [--skip-build] [--dry-run]

  --source DIR    OpenClaw's source, with a package.json [./cloudbot]
  --package FILE  publish this .tgz instead of building one
  --to PLACE      an S3 bucket (needs the aws command line tool and its credentials), or the folder
                  of assets of a control plane on this computer, such as ./data/assets
  --skip-build    pack the existing build
  --dry-run       print the steps without running them
  --help          print this

It runs `npm run build` and `npm pack`, checks that the package is OpenClaw's, publishes it together with its
sha256 (openclaw.tgz.sha256, for sha256sum -c; on S3 also as metadata), and prints both. Existing machines keep
their version; new ones get the new package. You need not restart a running control plane.
TEXT
}

die() { echo "deploy-openclaw.sh: $*" >&2; exit 1; }

source=./cloudbot package='' to='' build=yes dry=
while [ $# -gt 0 ]; do
  case "$1" in
    --source | --package | --to)
      [ $# -ge 2 ] || die "$1 needs a value; see --help"
      case "$1" in
        --source) source=$2 ;;
        --package) package=$2 ;;
        --to) to=$2 ;;
      esac
      shift 2 ;;
    --skip-build) build=; shift ;;
    --dry-run) dry=yes; shift ;;
    --help | -h) usage; exit 0 ;;
    *) die "unknown option $1; see --help" ;;
  esac
done
[ -n "$to" ] || die "no destination: use --to; see --help"
case "$to" in
  s3://?*) command -v aws >/dev/null || [ -n "$dry" ] || die "the aws command line tool is not installed" ;;
  s3://) die "--to s3:// needs a bucket" ;;
  *) [ -d "$to" ] || [ -n "$dry" ] || die "folder $to does not exist" ;;
esac

# step COMMAND...: prints the command, and runs it unless this is a dry run.
step() {
  echo "+ $*" >&2
  [ -n "$dry" ] || "$@"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "$package" ]; then
  [ -f "$package" ] || die "file $package does not exist"
else
  [ -f "$source/package.json" ] || [ -n "$dry" ] || die "$source has no package.json; set the folder of OpenClaw's source with --source"
  if [ -n "$build" ]; then step npm --prefix "$source" run build; fi
  echo "+ npm pack $source" >&2
  if [ -z "$dry" ]; then
    npm pack --silent --pack-destination "$work" "$(cd "$source" && pwd)" >/dev/null
    package=$(ls "$work"/*.tgz)
  fi
fi

sum='' version=''
if [ -n "$package" ]; then
  # The package must have the command that machines start: a wrong package would fail on each of them.
  manifest=$(tar -xzOf "$package" package/package.json) || die "$package is not an npm package"
  read -r name version < <(printf '%s' "$manifest" | node -e '
    const p = JSON.parse(require("fs").readFileSync(0, "utf8"));
    const bin = typeof p.bin === "string" ? { [p.name]: p.bin } : p.bin || {};
    console.log(bin.openclaw ? p.name : "-", p.version);')
  [ "$name" != - ] || die "$package has no command openclaw"
  sum=$(sha256sum <"$package" | cut -d ' ' -f 1)
fi

printf '%s  openclaw.tgz\n' "$sum" >"$work/sum"
case "$to" in
  s3://*)
    to=${to%/}
    step aws s3 cp "${package:-openclaw-VERSION.tgz}" "$to/openclaw.tgz" --content-type application/gzip --metadata "sha256=${sum:-SHA256},version=${version:-VERSION}"
    step aws s3 cp "$work/sum" "$to/openclaw.tgz.sha256" --content-type text/plain ;;
  *)
    # Copied under another name first, so that no machine gets an incomplete file.
    step cp "${package:-openclaw-VERSION.tgz}" "$to/.openclaw.tgz.new"
    step cp "$work/sum" "$to/.openclaw.tgz.sha256.new"
    step chmod 644 "$to/.openclaw.tgz.new" "$to/.openclaw.tgz.sha256.new"
    step mv -f "$to/.openclaw.tgz.new" "$to/openclaw.tgz"
    step mv -f "$to/.openclaw.tgz.sha256.new" "$to/openclaw.tgz.sha256" ;;
esac
if [ -n "$dry" ]; then
  echo "dry run: nothing was published" >&2
else
  echo "openclaw $version sha256 $sum at $to/openclaw.tgz"
fi
