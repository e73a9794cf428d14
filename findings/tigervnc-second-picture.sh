#!/usr/bin/env bash
# Does a lower quality level make TigerVNC send fewer bytes to noVNC?
# Guess:    yes: quality 1 takes a fraction of the bytes of quality 9.
# Truth:    the first picture does. As soon as the screen is at rest, Xvnc sends all of it a second time without
#           loss, so the lower level takes more bytes than level 9. No flag of Xvnc turns that off, but the
#           client can: at level 9 Xvnc takes JPEG for perfect, also if TurboVNC's pseudo-encodings for the JPEG
#           quality (-512 + quality) and colours (-767: one of four) ask for the quality of level 1.
# Versions: @novnc/novnc 1.7.0, ws 8.18.3, playwright-core 1.65.1 with the installed Chromium, TigerVNC 1.12
#           (the installed Xvnc). Seen on 2026-11-28.
# Source:   https://github.com/TigerVNC/tigervnc/pull/622 and 720 (lossless refresh; "allow high quality JPEG to
#           be considered lossless"); common/rfb/EncodeManager.cxx, TightJPEGEncoder.cxx (losslessQuality).
# Usage:    needs node 20 or newer, npm, Xvnc and chromium. Loopback only; removes what it made.
#           Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail

dir=$(mktemp -d)
pids=()
cleanup() {
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 2' INT TERM
cannot() { echo "cannot run: $1"; exit 2; }
for program in node npm Xvnc; do command -v "$program" >/dev/null || cannot "no $program"; done
browser=$(command -v chromium || command -v google-chrome || command -v chromium-browser) || cannot 'no chromium'

cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts @novnc/novnc@1.7.0 ws@8.18.3 playwright-core@1.65.1 >/dev/null || cannot 'npm install failed'

# The X server takes a free display, and a free port for VNC.
port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })')
mkfifo number
Xvnc -displayfd 3 -geometry 800x600 -depth 24 -rfbport "$port" -localhost -SecurityTypes None -nolisten tcp -noreset 3>number >xvnc.log 2>&1 &
pids+=($!)
display=$(timeout 30 head -n 1 number) || cannot 'Xvnc does not start'

cat >index.html <<'HTML'
<!doctype html><title>noVNC</title>
<div id="stage" style="width: 800px; height: 600px"></div>
<script type="module">
  import RFB from "/novnc/core/rfb.js";
  const [quality, ...more] = location.hash.slice(1).split(",").map(Number);
  const { clientEncodings } = RFB.messages;
  RFB.messages.clientEncodings = (sock, all) =>
    clientEncodings(sock, [...all.map((e) => (e >= -32 && e <= -23 ? -32 + quality : e)), ...more]);
  new RFB(document.getElementById("stage"), `ws://${location.host}/vnc`);
</script>
HTML

cat >run.cjs <<'JS'
const fs = require("fs"), http = require("http"), net = require("net"), path = require("path");
const { WebSocketServer } = require("ws");
const { chromium } = require("playwright-core");
const [executablePath, port, display] = process.argv.slice(2);
const w = 800, h = 600;

// A minimal X client draws something like a photograph.
const drawn = new Promise((done, fail) => {
  const x = net.connect(`/tmp/.X11-unix/X${display}`).on("error", fail);
  x.write(Buffer.from([0x6c, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
  let got = Buffer.alloc(0);
  x.on("data", (d) => {
    got = Buffer.concat([got, d]);
    if (got.length < 8 || got.length < 8 + 4 * got.readUInt16LE(6) || x.drawing) return;
    x.drawing = true;
    const id = got.readUInt32LE(12) + 1;
    const root = got.readUInt32LE(8 + 32 + ((got.readUInt16LE(24) + 3) & ~3) + 8 * got[29]);
    const gc = Buffer.alloc(16);
    gc[0] = 55;
    gc.writeUInt16LE(4, 2);
    [id, root, 0].forEach((v, i) => gc.writeUInt32LE(v, 4 + 4 * i));
    x.write(gc);
    let noise = 1;
    for (let y = 0; y < h; y++) {
      const b = Buffer.alloc(24 + 4 * w);
      b[0] = 72;
      b[1] = 2;
      b.writeUInt16LE(b.length / 4, 2);
      b.writeUInt32LE(root, 4);
      b.writeUInt32LE(id, 8);
      [w, 1, 0, y].forEach((v, i) => b.writeUInt16LE(v, 12 + 2 * i));
      b[21] = 24;
      for (let i = 0; i < w; i++)
        for (let c = 0; c < 3; c++) {
          noise = (noise * 1664525 + 1013904223) % 4294967296;
          const f = Math.sin(i / 90 + c) + Math.sin(y / 70 + 2 * c) + Math.sin((i + y) / 30) / 2;
          b[24 + 4 * i + c] = 128 + 36 * f + Math.floor(noise / 536870912);
        }
      x.write(b);
    }
    const sync = Buffer.from([43, 0, 1, 0]); // GetInputFocus: its reply comes after all of that
    const before = got.length;
    x.write(sync);
    x.on("data", () => got.length > before && done());
  });
});

const server = http.createServer((req, res) => {
  const root = req.url.startsWith("/novnc/") ? "node_modules/@novnc/novnc" : ".";
  const file = path.join(root, req.url === "/" ? "index.html" : req.url.replace("/novnc", ""));
  fs.readFile(file, (err, data) => {
    if (err) return res.writeHead(404).end();
    res.writeHead(200, { "content-type": file.endsWith(".js") ? "text/javascript" : "text/html" }).end(data);
  });
});
let bytes = 0, last = Date.now();
new WebSocketServer({ server, path: "/vnc" }).on("connection", (ws) => {
  const vnc = net.connect(Number(port), "127.0.0.1");
  vnc.on("data", (d) => { bytes += d.length; last = Date.now(); ws.send(d); }).on("close", () => ws.close()).on("error", () => ws.close());
  ws.on("message", (d) => vnc.write(d)).on("close", () => vnc.destroy());
});

(async () => {
  await drawn;
  await new Promise((up) => server.listen(0, "127.0.0.1", up));
  const b = await chromium.launch({ executablePath, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
  console.log(`Chromium ${b.version()}`);
  const seen = {};
  for (const [name, asked] of [["level 9", "9"], ["level 1", "1"], ["level 9 with the JPEG quality of level 1", "9,-483,-767"]]) {
    const page = await b.newPage();
    bytes = 0;
    await page.goto(`http://127.0.0.1:${server.address().port}/#${asked}`);
    while (bytes < 5_000 || Date.now() - last < 8_000) await new Promise((r) => setTimeout(r, 200));
    seen[name] = bytes;
    console.log(name.padEnd(42), bytes, "bytes until the screen is at rest");
    await page.close();
  }
  await b.close();
  server.close();
  const [best, low, once] = Object.values(seen);
  const same = low > best && once < best / 4;
  console.log(same ? "As described." : "It has changed; expected: the second is the largest, the third the smallest by far.");
  process.exit(same ? 0 : 1);
})().catch((err) => {
  console.log(`cannot run: ${err.message}`);
  process.exit(2);
});
JS
timeout 240 node run.cjs "$browser" "$port" "$display"
