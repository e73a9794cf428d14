// How much detail the connection can carry. Pure: one sample per second in, a level out. The measure is the time that a
// whole frame takes to arrive: it grows on a slow connection with any server, and an idle desktop has no frames. If the
// server answers fences, the wait in its queue counts too. The highest level takes several times as much data: it needs a
// frame that was large and quick.

export type QualityChoice = "automatic" | "best" | "slow";

/** What to ask the server for. */
export interface Detail {
  /** 0 to 9, as noVNC expects it. */
  compression: number;
  /** Of JPEG: 1 to 100. */
  quality: number;
  /** Of JPEG: every pixel has its own colour, or 2 or 4 share one. */
  colours: 1 | 2 | 4;
}

/** From the least data to the most detail. Qualities and colours are those of TigerVNC's levels 1, 4, 6 and 9. */
export const levels: readonly Detail[] = [
  { compression: 8, quality: 29, colours: 4 },
  { compression: 6, quality: 62, colours: 2 },
  { compression: 2, quality: 79, colours: 1 },
  { compression: 1, quality: 100, colours: 1 },
];

const top = levels.length - 1;

export interface Frame {
  /** From its first byte to its last. */
  ms: number;
  /** That arrived in this time: those of the first message had arrived already. */
  bytes: number;
}

export interface Sample {
  /** The slowest frame of the second; undefined: there was none. */
  frame?: Frame | undefined;
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
  fast: boolean; // since the last poor second, a large frame was quick
}

export const start: Quality = {
  level: 2,
  shortest: Infinity,
  poor: 0,
  good: 0,
  patience: 8,
  raised: false,
  fast: false,
};

const slowFrame = 500; // ms
const quickFrame = 150;
const longQueue = 400;
const shortQueue = 150;
const largeFrame = 20_000; // bytes
const fastLine = 8_000; // bits per ms: Mbit/s times 1,000

export function adapt(q: Quality, s: Sample): Quality {
  const shortest = Math.min(q.shortest, s.roundTripMs ?? Infinity);
  const wait = s.roundTripMs === undefined ? 0 : s.roundTripMs - shortest;
  const isPoor = (s.frame?.ms ?? 0) > slowFrame || wait > longQueue;
  const isGood = s.frame !== undefined && s.frame.ms < quickFrame && wait < shortQueue;
  const isFast = !isPoor && s.frame !== undefined && isQuick(s.frame);
  const poor = isPoor ? q.poor + 1 : 0;
  // The first picture of a fast connection is evidence enough, until more detail was too much.
  const first = isFast && q.patience === start.patience ? q.patience : 0;
  const good = Math.max(first, isGood ? q.good + 1 : isPoor ? 0 : q.good);
  const fast = isFast || (q.fast && !isPoor);
  if (poor >= 2 && q.level > 0) {
    const patience = q.raised ? Math.min(q.patience * 2, 128) : q.patience;
    return { level: q.level - 1, shortest, poor: 0, good: 0, patience, raised: false, fast };
  }
  if (good >= q.patience && q.level < (fast ? top : top - 1))
    return { ...q, level: q.level + 1, shortest, poor: 0, good: 0, raised: true, fast };
  if (good >= q.patience && q.raised) return { ...q, shortest, poor, good: 0, raised: false, fast };
  return { ...q, shortest, poor, good, fast };
}

const isQuick = (f: Frame) => f.bytes >= largeFrame && f.bytes * 8 >= fastLine * f.ms;

/** Returns the level of what to ask the server for. */
export const levelFor = (choice: QualityChoice, q: Quality): number =>
  choice === "best" ? top : choice === "slow" ? 0 : q.level;
