#!/usr/bin/env bash
# Is the schedule of a new OpenClaw empty?
# Guess:    yes: cron.list shows what its user or its agent has planned, and both have planned nothing.
# Truth:    the gateway plans jobs for itself right after its first start: the heartbeat each half hour, a nightly one of its
#           memory ("dreaming") and a weekly review of its skills. They are listed like all others and call a model. A
#           computer that wakes for "the agent's next job" would hardly sleep. They can be told by a declarationKey, which
#           a job that was added with cron.add lacks. The first two have settings (agents.defaults.heartbeat.every,
#           plugins.entries.memory-core.config.dreaming.enabled).
# Versions: openclaw 2026.9.6, Node 24 or newer. Seen on 2026-11-28.
# Source:   the packages' dist; answers of cron.list.
# Usage:    needs npm, and a node that OpenClaw runs on (NODE=/path/to/bin/node; 900 MB while it runs). Loopback only; removes
#           what it made. Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail

node=${NODE:-$(command -v node || true)}
cannot() { echo "cannot run: $1"; exit 2; }
[ -x "$node" ] && command -v npm >/dev/null || cannot 'no node or npm'
PATH=$(dirname "$node"):$PATH
node -e 'process.exit(+process.versions.node.split(".")[0] >= 22 ? 0 : 1)' || cannot "OpenClaw needs a newer node than $(node --version): set NODE"

dir=$(mktemp -d)
gateway=
cleanup() {
  [ -z "$gateway" ] || kill -KILL -- "-$gateway" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 2' INT TERM

cd "$dir"
npm install --silent --no-audit --no-fund openclaw@2026.9.6 >/dev/null || cannot 'npm install failed'
port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')
export HOME=$dir OPENCLAW_STATE_DIR=$dir/state OPENCLAW_GATEWAY_TOKEN=token OPENCLAW_DISABLE_BONJOUR=1 OPENCLAW_SKIP_CHANNELS=1 OPENCLAW_NO_RESPAWN=1
mkdir state
setsid node_modules/.bin/openclaw gateway run --allow-unconfigured --bind loopback --port "$port" >log 2>&1 &
gateway=$!
for _ in $(seq 90); do
  curl -fsS -o /dev/null "http://127.0.0.1:$port/readyz" 2>/dev/null && break
  sleep 1
done
for _ in $(seq 30); do
  timeout 60 node_modules/.bin/openclaw cron list --all --json --url "ws://127.0.0.1:$port" --token token >list.json 2>errors || true
  grep -q declarationKey list.json && break
  sleep 2
done
[ -s list.json ] || { tail -n 5 errors log; cannot 'the gateway lists no schedule'; }

node -e '
const text = require("fs").readFileSync("list.json", "utf8");
const jobs = JSON.parse(text.slice(text.indexOf("{"))).jobs;
for (const j of jobs)
  console.log(`${j.name}: ${j.declarationKey ?? "no key"}, ${JSON.stringify(j.schedule)}, ${j.payload.kind}, enabled ${j.enabled}`);
const own = jobs.filter((j) => j.declarationKey && j.enabled);
console.log(`${own.length} of ${jobs.length} jobs were planned by the gateway itself`);
process.exit(own.length >= 2 && own.length === jobs.length ? 0 : 1);
' || { echo "no longer as described"; exit 1; }
