// The live log and progress of one boot, as its machine reports it.
import { useEffect, useState } from "react";
import type { Phase } from "@/api/client";
import { pause, stream } from "@/api/events";

export type BootLine = { seq: number; at: string; phase: Phase; text: string };
export type BootProgress = { phase: Phase; detail: string; progress: number; at: string };

export type Boot = {
  progress?: BootProgress;
  lines: BootLine[];
  /** Lines that are not shown: the oldest beyond the limit, and those that the server skipped. */
  skipped: number;
  waiting: boolean;
};

export const keptLines = 2_000;

export const noBoot: Boot = { lines: [], skipped: 0, waiting: true };

/** Applies one message of the stream; pure. */
export function reduceBoot(boot: Boot, event: string, data: string): Boot {
  let v: Record<string, unknown>;
  try {
    v = JSON.parse(data) as Record<string, unknown>;
  } catch {
    return boot;
  }
  switch (event) {
    case "waiting":
      return { ...boot, waiting: true };
    case "progress":
      return { ...boot, waiting: false, progress: v as unknown as BootProgress };
    case "line": {
      const line = v as unknown as BootLine;
      if (boot.lines.some((l) => l.seq === line.seq && l.at === line.at)) return boot; // repeated after a break
      const lines = [...boot.lines, line];
      const over = Math.max(0, lines.length - keptLines);
      return { ...boot, waiting: false, lines: over ? lines.slice(over) : lines, skipped: boot.skipped + over };
    }
    case "skipped":
      return { ...boot, skipped: boot.skipped + (typeof v.lines === "number" ? v.lines : 0) };
    default:
      return boot;
  }
}

/** Returns the lines in order, grouped by phase. */
export function byPhase(lines: BootLine[]): { phase: Phase; lines: BootLine[] }[] {
  const groups: { phase: Phase; lines: BootLine[] }[] = [];
  for (const line of lines) {
    const last = groups.at(-1);
    if (last?.phase === line.phase) last.lines.push(line);
    else groups.push({ phase: line.phase, lines: [line] });
  }
  return groups;
}

/** Follows the boot of an instance while enabled. */
export function useBoot(id: string, enabled: boolean): Boot {
  const [boot, setBoot] = useState(noBoot);
  useEffect(() => {
    if (!enabled) return;
    const control = new AbortController();
    void follow(id, (f) => setBoot(f), control.signal);
    return () => control.abort();
  }, [id, enabled]);
  return boot;
}

async function follow(id: string, update: (f: (b: Boot) => Boot) => void, signal: AbortSignal) {
  let last: string | undefined;
  for (let tries = 0; !signal.aborted; tries++) {
    try {
      for await (const m of stream(`/api/instances/${id}/boot`, last, signal, () => (tries = 0))) {
        if (m.id) {
          // `<boot>.<seq>`: another boot starts a new log.
          if (last !== undefined && last.split(".")[0] !== m.id.split(".")[0]) update(() => noBoot);
          last = m.id;
        }
        if (m.event === "end") return;
        const { event, data } = m;
        if (event) update((b) => reduceBoot(b, event, data));
      }
    } catch {
      // reconnect
    }
    if (!signal.aborted) await pause(Math.min(20_000, 1_000 * 2 ** Math.min(tries, 5)), signal);
  }
}
