// Which desktops wait for an answer of their user.
import type { Instance } from "@/api/client";

export type Waiting = {
  id: string;
  name: string;
  /** How many approvals and questions wait; at least one. */
  count: number;
  /** When the first of them expires, in ms; undefined: not known. */
  until: number | undefined;
};

/** Returns what a desktop waits for, if it does. Older servers do not report it. */
export function waitingOf({ id, name, agent_state: state }: Instance): Waiting | undefined {
  const count = (state?.approvals ?? 0) + (state?.questions ?? 0);
  if (count === 0) return undefined;
  const until = Date.parse(state?.until ?? "");
  return { id, name, count, until: Number.isNaN(until) ? undefined : until };
}

/** Returns the desktops that wait, those that expire first at the beginning. */
export function waitingIn(instances: Instance[]): Waiting[] {
  const end = (w: Waiting) => w.until ?? Infinity;
  return instances
    .flatMap((i) => waitingOf(i) ?? [])
    .toSorted((a, b) => (end(a) === end(b) ? a.id.localeCompare(b.id) : end(a) - end(b)));
}

/**
 * Remembers what waited before. Each call returns the desktops for which more waits than at the call before. A
 * desktop whose connection broke reports the same again, which is not new.
 */
export function newWaiting(): (now: readonly Waiting[]) => Waiting[] {
  const known = new Map<string, { count: number; until: number | undefined }>();
  return (now) => {
    const fresh = now.filter((w) => {
      const before = known.get(w.id);
      if (!before) return true;
      return w.count > before.count && !(before.count === 0 && w.until !== undefined && w.until === before.until);
    });
    for (const k of known.values()) k.count = 0;
    for (const { id, count, until } of now) known.set(id, { count, until });
    return fresh;
  };
}

/** What a page says of it; never what the agent asks, because others may see the screen. */
export const words = (name: string) => `The agent on ${name} needs your answer`;
