#!/bin/sh
# Starts the control plane on a computer with a shell: first the migrations, then traffic. If a migration fails, the
# server does not start, and the version that runs now continues. Arguments go to `cloudbot serve`.
# The container image has no shell and needs no script: its start command is `cloudbot serve`, which also migrates
# before it answers, and a platform can run `cloudbot migrate` before that (railway.json does).
set -eu
cloudbot=$(dirname "$0")/../bin/cloudbot
[ -x "$cloudbot" ] || { echo "start.sh: $cloudbot is missing; run \`make build\`, or unpack a release archive" >&2; exit 1; }
"$cloudbot" migrate
exec "$cloudbot" serve "$@"
