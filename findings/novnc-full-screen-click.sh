#!/usr/bin/env bash
# Does a click on a noVNC screen that is in full screen leave the page as it was?
# Guess:    yes, as it does in the window: noVNC lays an element over the page while a button is pressed
#           (noVNC_mouse_capture_elem), and hides it when the button is released.
# Truth:    it stays. The element is a child of body, and while another element is in full screen, all else
#           is inert. So the release goes to the canvas itself, whose handler stops it before the listener
#           on window that would end the capture. The element then covers the page once full screen ends:
#           the next click on any button of the page does nothing but end the capture.
# Versions: @novnc/novnc 1.7.0, ws 8.18.3, playwright-core 1.65.1 with the installed Chromium, TigerVNC 1.12
#           (the installed Xvnc). Seen on 2026-11-28.
# Source:   core/util/events.js setCapture, _captureProxy; core/rfb.js _handleMouse (stopEvent); the
#           Fullscreen specification makes the rest of the document inert for the top layer.
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
Xvnc -displayfd 3 -geometry 800x600 -rfbport "$port" -localhost -SecurityTypes None -nolisten tcp 3>number >xvnc.log 2>&1 &
pids+=($!)
timeout 30 head -n 1 number >/dev/null || cannot 'Xvnc does not start'

cat >index.html <<'EOF'
<!doctype html><title>noVNC</title>
<button id="below" onclick="this.textContent = Number(this.textContent) + 1">0</button>
<button id="full" onclick="document.getElementById('stage').requestFullscreen()">full screen</button>
<div id="stage" style="width: 640px; height: 480px"></div>
<script type="module">
  import RFB from "/novnc/core/rfb.js";
  const rfb = new RFB(document.getElementById("stage"), `ws://${location.host}/vnc`);
  rfb.scaleViewport = true;
  rfb.addEventListener("connect", () => { document.title = "connected"; });
</script>
EOF

cat >run.cjs <<'EOF'
const fs = require("fs"), http = require("http"), net = require("net"), path = require("path");
const { WebSocketServer } = require("ws");
const { chromium } = require("playwright-core");
const [executablePath, port] = process.argv.slice(2);

const server = http.createServer((req, res) => {
  const root = req.url.startsWith("/novnc/") ? "node_modules/@novnc/novnc" : ".";
  const file = path.join(root, req.url === "/" ? "index.html" : req.url.replace("/novnc", ""));
  fs.readFile(file, (err, data) => {
    if (err) return res.writeHead(404).end();
    res.writeHead(200, { "content-type": file.endsWith(".js") ? "text/javascript" : "text/html" }).end(data);
  });
});
new WebSocketServer({ server, path: "/vnc" }).on("connection", (ws) => {
  const vnc = net.connect(Number(port), "127.0.0.1");
  vnc.on("data", (d) => ws.send(d)).on("close", () => ws.close()).on("error", () => ws.close());
  ws.on("message", (d) => vnc.write(d)).on("close", () => vnc.destroy());
});

const cover = () => {
  const e = document.getElementById("noVNC_mouse_capture_elem");
  return e !== null && e.style.display !== "none" ? "covers the page" : "hidden";
};

(async () => {
  await new Promise((up) => server.listen(0, "127.0.0.1", up));
  const b = await chromium.launch({ executablePath, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
  console.log(`Chromium ${b.version()}`);
  const page = await b.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(() => document.title === "connected", undefined, { timeout: 30_000 });
  const click = async () => {
    await page.mouse.move(300, 300);
    await page.mouse.down();
    await page.mouse.up();
  };
  const seen = {};
  await click();
  seen["after a click in the window"] = await page.evaluate(cover);
  await page.click("#full");
  await page.waitForFunction(() => document.fullscreenElement !== null, undefined, { timeout: 30_000 });
  await click();
  seen["after a click in full screen"] = await page.evaluate(cover);
  await page.evaluate(() => document.exitFullscreen());
  await page.waitForFunction(() => document.fullscreenElement === null, undefined, { timeout: 30_000 });
  seen["after full screen"] = await page.evaluate(cover);
  const at = await page.locator("#below").boundingBox();
  for (const n of ["first", "second"]) {
    await page.mouse.click(at.x + at.width / 2, at.y + at.height / 2);
    seen[`clicks that a button of the page counts after the ${n}`] = await page.textContent("#below");
  }
  await b.close();
  server.close();
  const expected = ["hidden", "covers the page", "covers the page", "0", "1"];
  Object.entries(seen).forEach(([what, got]) => console.log(what.padEnd(62), got));
  const same = JSON.stringify(Object.values(seen)) === JSON.stringify(expected);
  console.log(same ? "As described." : `It has changed; expected: ${expected.join(", ")}.`);
  process.exit(same ? 0 : 1);
})().catch((err) => {
  console.log(`cannot run: ${err.message}`);
  process.exit(2);
});
EOF
timeout 180 node run.cjs "$browser" "$port"
