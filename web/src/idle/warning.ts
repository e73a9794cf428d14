// The warning before a desktop stops by itself: which one is shown, and how much time is left.
import type { Instance } from "@/api/client";
import { msOf } from "./outlook";

export type Warning = {
  /** When the desktop stops, in ms. */
  until: number;
  cause: "idle" | "ceiling";
  /** A sentence of the server. */
  why: string;
};

/** Returns the warning that a desktop's page shows; undefined: none. Older servers do not report it. */
export function warningOf({ status, idle }: Pick<Instance, "status" | "idle">): Warning | undefined {
  const warning = idle?.warning;
  const until = msOf(warning?.stop_at);
  if (status !== "running" || !warning || until === undefined) return undefined;
  return { until, cause: warning.cause, why: warning.why };
}

/** Returns the countdown: "in 4 min 5 s", "in 9 s", and "now" after the time: the stop may take a moment to arrive. */
export function countdown(ms: number): string {
  const s = Math.ceil(ms / 1000);
  if (s <= 0) return "now";
  if (s < 60) return `in ${s} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return s % 60 ? `in ${min} min ${s % 60} s` : `in ${min} min`;
  return min % 60 ? `in ${Math.floor(min / 60)} h ${min % 60} min` : `in ${Math.floor(min / 60)} h`;
}
