// The commands and tools that the machine lets the agent use without asking (the guest's cloudbot.allowed methods). All
// data comes from the machine, which is not trusted.
import { visible } from "./asked";
import { id, limits, list, num, rec, str } from "./frames";
import { RequestError } from "./requests";

export interface Allowance {
  id: string;
  command: string; // "": the machine no longer knows it
  programs: string[];
  any: boolean; // with any arguments
  tool: string; // "": it is a command
  agent: string; // "" for the usual one
  usedAt: number | undefined;
}

export interface Allowances {
  entries: Allowance[];
  more: number; // left out
}

/** Asks is the part of a connection that is used here. */
export type Asks = { ask: (method: string, params: object) => Promise<unknown> };

export function allowances(payload: unknown): Allowances {
  const p = rec(payload);
  const entries = list(p.entries, limits.sessions).flatMap((v) => {
    const e = rec(v);
    const tool = str(e.tool) && `${str(e.tool)} of ${str(e.server)}`;
    if (!id(e.id)) return [];
    return [
      {
        id: id(e.id),
        command: visible(str(e.command, limits.detail)),
        programs: list(e.programs, 20).flatMap((x) => visible(str(x, 500)) || []),
        any: e.any === true,
        tool: visible(tool),
        agent: e.agent === "main" ? "" : visible(str(e.agent)),
        usedAt: num(e.usedAt),
      },
    ];
  });
  return { entries, more: num(p.more) ?? 0 };
}

export const loadAllowed = async (c: Asks): Promise<Allowances> => allowances(await c.ask("cloudbot.allowed.list", {}));

export const removeAllowed = async (c: Asks, entry: string): Promise<Allowances> =>
  allowances(await c.ask("cloudbot.allowed.remove", { id: entry }));

const known = new WeakSet<Asks>();

/** canTakeBack reports whether the machine has the list: older guests, and agents that refuse it, do not. */
export async function canTakeBack(c: Asks): Promise<boolean> {
  if (known.has(c)) return true;
  try {
    await loadAllowed(c);
    known.add(c);
    return true;
  } catch {
    return false;
  }
}

/** whyNot describes why the list could not be read or changed. */
export const whyNot = (error: unknown): string =>
  error instanceof RequestError && !error.failure.retryable
    ? `This desktop can't show or change the list: ${error.failure.message}`
    : "The desktop did not answer. The list is available only while the desktop and its agent run.";
