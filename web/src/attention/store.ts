// The desktops that wait for an answer, for all parts of the page.
import { useSyncExternalStore } from "react";
import type { Waiting } from "./waiting";

let waiting: readonly Waiting[] = [];
const listeners = new Set<() => void>();
const subscribe = (l: () => void) => (listeners.add(l), () => void listeners.delete(l));

export function setWaiting(now: readonly Waiting[]) {
  if (JSON.stringify(now) === JSON.stringify(waiting)) return;
  waiting = now;
  for (const l of listeners) l();
}

export const useWaiting = () => useSyncExternalStore(subscribe, () => waiting);
