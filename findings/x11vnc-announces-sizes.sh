#!/usr/bin/env bash
# Can a client resize the screen of a VNC server that announces ExtendedDesktopSize?
# Guess:    yes: a server sends that pseudo-rectangle if it supports the message SetDesktopSize.
# Truth:    x11vnc sends the rectangle, with one screen, but refuses every other size with status 1 ("administratively
#           prohibited"). Xvnc, asked in the same way, changes its size and answers with status 0. So a client
#           learns only from the first answer whether it may resize the screen.
# Versions: x11vnc 0.9.16 with libvncserver 0.9.14 and Xvfb 21.1, TigerVNC 1.12 (the installed ones). Seen on
#           2026-11-28.
# Source:   https://github.com/rfbproto/rfbproto/blob/master/rfbproto.rst (ExtendedDesktopSize Pseudo-encoding);
#           libvncserver's src/libvncserver/main.c (rfbDefaultSetDesktopSize).
# Usage:    needs node 20 or newer, Xvfb, x11vnc and Xvnc. Loopback only; removes what it made.
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
for program in node Xvfb x11vnc Xvnc; do command -v "$program" >/dev/null || cannot "no $program"; done
cd "$dir"
free() { node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })'; }

mkfifo display
Xvfb -displayfd 3 -screen 0 800x600x24 -nolisten tcp -noreset 3>display >xvfb.log 2>&1 &
pids+=($!)
number=$(timeout 30 head -n 1 display) || cannot 'Xvfb does not start'
x11vnc_port=$(free)
x11vnc -display ":$number" -localhost -rfbport "$x11vnc_port" -forever -shared -nopw -noipv6 -xrandr -q >x11vnc.log 2>&1 &
pids+=($!)

xvnc_port=$(free)
mkfifo number
Xvnc -displayfd 3 -geometry 800x600 -depth 24 -rfbport "$xvnc_port" -localhost -SecurityTypes None -nolisten tcp -noreset 3>number >xvnc.log 2>&1 &
pids+=($!)
timeout 30 head -n 1 number >/dev/null || cannot 'Xvnc does not start'

cat >ask.cjs <<'JS'
const net = require("net");

// ask connects, waits for the announcement, asks for 640x480 and prints the answer.
function ask(name, port) {
  return new Promise((done, fail) => {
    let got = Buffer.alloc(0), wake;
    const s = net.connect(port, "127.0.0.1").on("error", fail);
    s.on("data", (d) => { got = Buffer.concat([got, d]); wake?.(); });
    const take = async (n) => {
      while (got.length < n) await new Promise((r) => (wake = r));
      const b = got.subarray(0, n);
      got = got.subarray(n);
      return b;
    };
    // sizes reads messages until a rectangle with ExtendedDesktopSize came.
    const size = async () => {
      for (;;) {
        const type = (await take(1))[0];
        if (type === 2) continue; // bell
        if (type === 3) { // cut text
          await take(Math.abs((await take(7)).readInt32BE(3)));
          continue;
        }
        if (type !== 0) throw new Error(`message ${type} of ${name}`);
        const count = (await take(3)).readUInt16BE(1);
        let found = null;
        for (let i = 0; i < count; i++) {
          const r = await take(12);
          const [x, y, w, h] = [0, 2, 4, 6].map((at) => r.readUInt16BE(at));
          const encoding = r.readInt32BE(8);
          if (encoding === -308) {
            const screens = (await take(4))[0];
            await take(16 * screens);
            found = { reason: x, status: y, width: w, height: h, screens };
          } else if (encoding === 0) await take(4 * w * h);
          else throw new Error(`encoding ${encoding} of ${name}`);
        }
        if (found) return found;
      }
    };
    const update = (incremental) => {
      const b = Buffer.alloc(10);
      b[0] = 3;
      b[1] = incremental;
      b.writeUInt16BE(16, 6);
      b.writeUInt16BE(16, 8);
      s.write(b);
    };
    (async () => {
      await take(12);
      s.write("RFB 003.008\n");
      const kinds = await take((await take(1))[0]);
      if (!kinds.includes(1)) throw new Error(`${name} offers no security type None`);
      s.write(Buffer.from([1]));
      await take(4);
      s.write(Buffer.from([1])); // shared
      const init = await take(24);
      await take(init.readUInt32BE(20));
      const encodings = Buffer.alloc(12);
      encodings[0] = 2;
      encodings.writeUInt16BE(2, 2);
      encodings.writeInt32BE(0, 4); // raw
      encodings.writeInt32BE(-308, 8);
      s.write(encodings);
      update(0);
      const announced = await size();
      const set = Buffer.alloc(24);
      set[0] = 251;
      set.writeUInt16BE(640, 2);
      set.writeUInt16BE(480, 4);
      set[6] = 1;
      set.writeUInt16BE(640, 16);
      set.writeUInt16BE(480, 18);
      s.write(set);
      update(1);
      let answer;
      do answer = await size(); while (answer.reason !== 1);
      s.destroy();
      console.log(name.padEnd(7), "announces", JSON.stringify(announced), "and answers", JSON.stringify(answer));
      done({ announced, answer });
    })().catch(fail);
  });
}

// up waits until a port answers.
async function up(port) {
  for (let i = 0; i < 150; i++) {
    const open = await new Promise((r) => { const s = net.connect(port, "127.0.0.1").on("connect", () => { s.destroy(); r(true); }).on("error", () => r(false)); });
    if (open) return;
    await new Promise((r) => setTimeout(r, 200));
  }
  throw new Error(`port ${port} does not answer`);
}

(async () => {
  const [x11vnc, xvnc] = process.argv.slice(2).map(Number);
  await up(x11vnc);
  await up(xvnc);
  const a = await ask("x11vnc", x11vnc), b = await ask("Xvnc", xvnc);
  const same = a.announced.screens === 1 && a.answer.status === 1 && a.answer.width === 800 && b.announced.screens === 1 && b.answer.status === 0 && b.answer.width === 640;
  console.log(same ? "As described." : "It has changed; expected: both announce one screen, x11vnc refuses with status 1, Xvnc changes to 640x480.");
  process.exit(same ? 0 : 1);
})().catch((err) => { console.log(`cannot run: ${err.message}`); process.exit(2); });
JS
timeout 120 node ask.cjs "$x11vnc_port" "$xvnc_port"
