// The progress of a boot and the time it will take, estimated from earlier boots of this installation.
import type { Instance, Phase, Status } from "@/api/client";
import type { Tone } from "@/ui";
import { duration } from "@/ui/time";

/**
 * The phases in order, with what happens between each and the next. A phase is reported when it is reached: at
 * "desktop" there is a desktop.
 */
export const phases: { phase: Phase; label: string }[] = [
  { phase: "requested", label: "Requested" },
  { phase: "allocating", label: "Finding a machine" },
  { phase: "booting", label: "Starting the machine" },
  { phase: "installing", label: "Setting up the desktop" },
  { phase: "desktop", label: "Setting up the agent" },
  { phase: "agent", label: "Starting the agent" },
  { phase: "ready", label: "Ready" },
];

export const phaseLabel = (p: Phase) => phases.find((x) => x.phase === p)?.label ?? p;

/** Reports whether an instance is on its way to ready. */
export const isBooting = (i: Pick<Instance, "status" | "ready" | "phase">) =>
  i.status === "launching" || i.status === "starting" || (i.status === "running" && !i.ready && i.phase !== "ready");

/** Reports whether there is a desktop to see. The agent may still be starting. */
export const hasDesktop = (i: Pick<Instance, "status" | "phase">) =>
  i.status === "running" && ["desktop", "agent", "ready"].includes(i.phase);

/** Returns a status as text, with its colour. */
export function statusWords(i: Pick<Instance, "status" | "ready" | "phase">): { text: string; tone: Tone | "busy" } {
  const words: Record<Status, { text: string; tone: Tone | "busy" }> = {
    launching: { text: "Starting up", tone: "busy" },
    starting: { text: "Starting", tone: "busy" },
    running: i.ready
      ? { text: "Ready", tone: "good" }
      : i.phase === "ready"
        ? { text: "Not responding", tone: "warn" }
        : { text: "Starting up", tone: "busy" },
    stopping: { text: "Stopping", tone: "busy" },
    stopped: { text: "Stopped", tone: "info" },
    terminating: { text: "Terminating", tone: "busy" },
    terminated: { text: "Terminated", tone: "info" },
    failed: { text: "Failed", tone: "bad" },
  };
  return words[i.status];
}

/** How long boots took: milliseconds from the request to each phase. */
export type BootTimes = {
  samples: number;
  phases: { phase: Phase; p50_ms: number; p95_ms: number }[];
  total?: { p50_ms: number; p95_ms: number } | null | undefined;
};

export type Estimate = {
  /** 0 to 1; it never reaches 1 before ready. */
  fraction: number;
  /** Milliseconds left by the median; undefined: unknown. */
  left?: number;
  /** Longer than 19 of 20 boots, as far as this phase shows. */
  late: boolean;
};

/** The number of boots from which a forecast is made: fewer say little about the next one. */
const fewestBoots = 5;

/** Returns how long boots took in total, if enough were measured. */
const measured = (times: BootTimes | undefined) => (times && times.samples >= fewestBoots ? times.total : undefined);

/** Returns how long a boot, or its present step, has lasted: the text in place of a forecast. */
export function elapsed(i: Pick<Instance, "status" | "created_at" | "phase_since">, now: number): string {
  return i.status === "launching"
    ? `${duration(now - Date.parse(i.created_at))} so far`
    : `${duration(now - Date.parse(i.phase_since))} in this step`;
}

/**
 * Estimates a boot that reached phase at since (ms), at the time now. Within a phase the bar approaches
 * the next phase's place by the median and never passes it, so it never moves backwards.
 */
export function estimate(times: BootTimes | undefined, phase: Phase, since: number, now: number, said = 0): Estimate {
  if (phase === "ready") return { fraction: 1, late: false };
  const inPhase = Math.max(0, now - since);
  const at = phases.findIndex((p) => p.phase === phase);
  const total = measured(times);
  if (!times || !total || total.p50_ms <= 0) {
    // Too few boots have been measured here: use the server's value for the phase, and slowly approach the next one.
    const base = at / (phases.length - 1);
    return {
      fraction: Math.max(approach(base, (at + 1) / (phases.length - 1), inPhase / 20_000), Math.min(said / 100, 0.98)),
      late: false,
    };
  }
  const reached = (p: Phase, q: "p50_ms" | "p95_ms") =>
    p === "requested" ? 0 : p === "ready" ? total[q] : times.phases.find((x) => x.phase === p)?.[q];
  const goal = reached(phases.slice(at + 1).find((p) => reached(p.phase, "p50_ms") !== undefined)!.phase, "p50_ms")!;
  // A phase that other boots skip has no place of its own: the bar waits just before the next one.
  const base = Math.min(goal, reached(phase, "p50_ms") ?? goal);
  const fraction = approach(base / total.p50_ms, goal / total.p50_ms, inPhase / Math.max(250, goal - base));
  return {
    fraction: Math.min(0.98, fraction),
    left: Math.max(0, total.p50_ms - base - Math.min(inPhase, goal - base)),
    late: inPhase > Math.max(2_000, total.p95_ms - base),
  };
}

const within = (ms: number) => `ready within ${duration(Math.ceil(ms / 1000) * 1000)}.`;

/** Returns a sentence on how long a boot takes here. A claim about 19 of 20 boots needs at least 20 boots. */
export function experience(times: BootTimes | undefined): string | undefined {
  const total = measured(times);
  if (!times || !total) return undefined;
  if (times.samples >= 20) return `19 of 20 desktops here are ${within(total.p95_ms)}`;
  return `Half of the ${times.samples} desktops that started here before were ${within(total.p50_ms)}`;
}

// Linear at first, then slower: at the median it has covered 4/5 of the way.
function approach(from: number, to: number, share: number): number {
  return from + (to - from) * (share <= 1 ? 0.8 * share : 1 - 0.2 / share);
}
