// Which desktops wait for their user: for an answer, or because they stop soon.
import type { Instance } from "@/api/client";
import { warningOf } from "@/idle/warning";

export type Waiting = {
  id: string;
  name: string;
  /** How many approvals and questions wait; at least one. */
  count: number;
  /** When the first of them expires, in ms; undefined: not known. */
  until: number | undefined;
  /** The desktop stops by itself then, unless it is used; otherwise it waits for an answer. */
  stops?: true;
};

/** Returns what a desktop waits for, if it does. Older servers do not report it. */
export function waitingOf({ id, name, agent_state: state }: Instance): Waiting | undefined {
  const count = (state?.approvals ?? 0) + (state?.questions ?? 0);
  if (count === 0) return undefined;
  const until = Date.parse(state?.until ?? "");
  return { id, name, count, until: Number.isNaN(until) ? undefined : until };
}

/** Returns that a desktop stops soon, if its user is warned. */
export function stopOf(i: Instance): Waiting | undefined {
  const warning = warningOf(i);
  return warning && { id: i.id, name: i.name, count: 1, until: warning.until, stops: true };
}

/** Tells what one desktop waits for from what another does, and its answers from its stop. */
export const keyOf = ({ id, stops }: Waiting) => (stops ? `${id}.stop` : id);

/** Returns the desktops that wait, those that expire first at the beginning. */
export function waitingIn(instances: Instance[]): Waiting[] {
  const end = (w: Waiting) => w.until ?? Infinity;
  return instances
    .flatMap((i) => [waitingOf(i) ?? [], stopOf(i) ?? []].flat())
    .toSorted((a, b) => (end(a) === end(b) ? a.id.localeCompare(b.id) : end(a) - end(b)));
}

/**
 * Remembers what waited before. Each call returns the desktops for which more waits than at the call before. A
 * desktop whose connection broke reports the same again, which is not new.
 */
export function newWaiting(): (now: readonly Waiting[]) => Waiting[] {
  const known = new Map<string, Pick<Waiting, "count" | "until">>();
  return (now) => {
    const fresh = now.filter((w) => {
      const before = known.get(keyOf(w));
      if (!before) return true;
      if (w.stops) return before.count === 0; // another warning; a warning may get another time
      return w.count > before.count && !(before.count === 0 && w.until !== undefined && w.until === before.until);
    });
    for (const [key, k] of known) known.set(key, { ...k, count: 0 });
    for (const w of now) known.set(keyOf(w), w);
    return fresh;
  };
}

/** What a page says of it; never what the agent asks, because others may see the screen. */
export const words = ({ name, stops }: Waiting) =>
  stops ? `${name} stops soon` : `The agent on ${name} needs your answer`;

/** Returns what the title and the bar say of all that waits. */
export function summary(waiting: readonly Waiting[]): string {
  const stops = waiting.filter((w) => w.stops).length;
  const answers = waiting.filter((w) => !w.stops).reduce((n, w) => n + w.count, 0);
  if (answers === 0) return stops === 1 ? "A desktop stops soon" : "Desktops stop soon";
  return answers + stops === 1
    ? "Your answer is needed"
    : answers > 0 && stops > 0
      ? "You are needed"
      : "Your answers are needed";
}
