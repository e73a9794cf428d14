// Who uses the desktop's mouse and keyboard: the guest's cloudbot.control events, and the agent's tools that act on the
// desktop. All data comes from the machine, which is not trusted.
import { id, num, rec, type Rec } from "./frames";

export interface Control {
  holder: "agent" | "user";
  since: number | undefined; // the machine's time at which the user took mouse and keyboard
  until: number; // when the hold ends without another use, by this browser's clock
  ahead: number; // ms by which the machine's clock is ahead of this browser's, as far as is known
  leased: boolean; // the agent's next use of the computer is refused
}

/** Acting is a run of the agent that uses the desktop at present. */
export interface Acting {
  run: string;
  session: string;
  calls: string[]; // tools under way
  until: number; // without another event, it counts as over from then on
}

/** holdFor is how long a hold lasts after the latest use: wire.ControlFor of the guest. */
export const holdFor = 120_000;
const thinksFor = 15_000; // ms between two uses of the desktop that still count as one
const longestUse = 90_000; // ms without an event of a tool under way
const mostRuns = 8;
const mostCalls = 16;

/** control reads the payload of an event, or of the answer to take and give. before is what was known. */
export function control(payload: unknown, before: Control | undefined, now: number): Control | undefined {
  const c = rec(payload);
  if (c.holder !== "agent" && c.holder !== "user") return before;
  const since = num(c.since);
  // The machine has only now taken them, so its clock shows since.
  const taken = before?.holder === "agent" && c.holder === "user" && since !== undefined;
  const ahead = taken ? since - now : (before?.ahead ?? 0);
  const until = Math.min(Math.max((num(c.until) ?? now) - ahead, now), now + holdFor);
  return { holder: c.holder, since, until, ahead, leased: c.leased === true };
}

/** acts updates the runs that use the desktop with an agent event. */
export function acts(all: Acting[], p: Rec, now: number): Acting[] {
  const run = id(p.runId);
  const d = rec(p.data);
  if (!run) return all;
  if (p.stream === "lifecycle") {
    const over = (d.phase === "end" || d.phase === "error") && all.some((a) => a.run === run);
    return over ? all.filter((a) => a.run !== run) : all;
  }
  if (p.stream !== "item" || d.kind !== "tool" || (d.name !== "computer" && d.name !== "browser")) return all;
  const call = id(d.toolCallId) || id(d.itemId);
  const known = all.find((a) => a.run === run);
  const others = (known?.calls ?? []).filter((c) => c !== call);
  const calls = d.phase === "end" ? others : [...others, call].slice(-mostCalls);
  const until = now + (calls.length > 0 ? longestUse : thinksFor);
  const acting = { run, session: id(p.sessionKey) || known?.session || "", calls, until };
  return [...all.filter((a) => a !== known), acting].slice(-mostRuns);
}

type Busy = { acting: Acting[]; busy: string[]; runs: { id: string }[] };

/** stops returns the parameters of the requests that stop every run this page knows of. */
export function stops(s: Busy & { current: string }) {
  const runs = new Map(s.runs.map((r) => [r.id, s.current]));
  for (const a of s.acting) if (a.session) runs.set(a.run, a.session);
  const sessions = s.busy.filter((key) => ![...runs.values()].includes(key));
  return [
    ...[...runs].map(([runId, sessionKey]) => ({ sessionKey, runId })),
    ...sessions.map((sessionKey) => ({ sessionKey })),
  ];
}

/** works reports whether a run is under way, as far as this page knows. */
export const works = (s: Busy) => s.acting.length + s.busy.length + s.runs.length > 0;
