#!/usr/bin/env bash
# When was a terminal last used, by the time of its device?
# Guess:    its access time is that of the last input: a desktop that has just been typed on shows it.
# Truth:    the kernel moves a terminal's times only in steps of 8 seconds, and to the step, not to the input. A terminal
#           that is typed on all the time still shows a time that is up to 8 seconds old, and two inputs within a step look
#           like one. So "idle for less than 8 seconds" cannot be told, and a look that compares times must expect it.
# Versions: Linux 6.18 and Python 3.11 (only its standard library). Seen on 2026-11-28.
# Source:   drivers/tty/tty_io.c, tty_update_time: it hides the time of single keys from other users, because that
#           reveals the length of passwords.
# Usage:    needs python3. Makes one pseudo-terminal of its own for half a minute. Removes what it made.
#           Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail
command -v python3 >/dev/null || { echo "cannot run: no python3"; exit 2; }

python3 - <<'PYTHON'
import os, pty, sys, time

main, terminal = pty.openpty()
device = os.ttyname(terminal)
inputs, oldest, steps = 0, 0.0, []
for _ in range(120):
    time.sleep(0.25)
    os.write(main, b"x\n")
    os.read(terminal, 16)
    inputs += 1
    shown = os.stat(device).st_atime
    if not steps or steps[-1] != shown:
        steps.append(shown)
    if len(steps) > 1:
        oldest = max(oldest, time.time() - shown)
os.close(terminal)
os.close(main)

later = steps[1:]  # the first is when the terminal was made
print(f"{inputs} inputs in 30 s changed the device's access time {len(later)} times")
print("the times that it showed, modulo 8 s:", ", ".join(f"{t % 8:g}" for t in later))
print(f"right after an input it was up to {oldest:.1f} s old")
if not 3 <= len(later) <= 5 or any(t % 8 for t in later) or oldest < 4:
    print("no longer as described")
    sys.exit(1)
PYTHON
