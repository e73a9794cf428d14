// How much detail the connection can carry. Pure: one sample per second in, a level out. The measure is the time that a
// whole frame takes to arrive: it grows on a slow connection with any server, and an idle desktop has no frames. If the
// server answers fences, the wait in its queue counts too.

export type QualityChoice = "automatic" | "best" | "slow";

/** As noVNC expects them, from the least data to the most detail. */
export const levels = [
  { quality: 1, compression: 8 },
  { quality: 4, compression: 6 },
  { quality: 6, compression: 2 },
  { quality: 9, compression: 1 },
] as const;

const top = levels.length - 1;

export interface Sample {
  /** Of the slowest frame of the second, from its first byte to its last; undefined: there was none. */
  frameMs?: number | undefined;
  /** Of a round trip through the server's queue; undefined: not measured. */
  roundTripMs?: number | undefined;
}

export interface Quality {
  level: number;
  /** The shortest round trip so far: any time above it is queueing. */
  shortest: number;
  poor: number; // seconds in a row
  good: number; // seconds in a row
  /** Good seconds before trying more detail; doubled each time more detail was too much. */
  patience: number;
  raised: boolean; // the last change was upwards, and not yet confirmed
}

export const start: Quality = { level: 2, shortest: Infinity, poor: 0, good: 0, patience: 8, raised: false };

const slowFrame = 500; // ms
const quickFrame = 150;
const longQueue = 400;
const shortQueue = 150;

export function adapt(q: Quality, s: Sample): Quality {
  const shortest = Math.min(q.shortest, s.roundTripMs ?? Infinity);
  const wait = s.roundTripMs === undefined ? 0 : s.roundTripMs - shortest;
  const isPoor = (s.frameMs ?? 0) > slowFrame || wait > longQueue;
  const isGood = s.frameMs !== undefined && s.frameMs < quickFrame && wait < shortQueue;
  const poor = isPoor ? q.poor + 1 : 0;
  const good = isGood ? q.good + 1 : isPoor ? 0 : q.good;
  if (poor >= 2 && q.level > 0) {
    const patience = q.raised ? Math.min(q.patience * 2, 128) : q.patience;
    return { level: q.level - 1, shortest, poor: 0, good: 0, patience, raised: false };
  }
  if (good >= q.patience && q.level < top)
    return { ...q, level: q.level + 1, shortest, poor: 0, good: 0, raised: true };
  if (good >= q.patience && q.raised) return { ...q, shortest, poor, good: 0, raised: false };
  return { ...q, shortest, poor, good };
}

/** Returns what to ask the server for. */
export function levelFor(choice: QualityChoice, q: Quality): (typeof levels)[number] {
  return levels[choice === "best" ? top : choice === "slow" ? 0 : q.level]!;
}
