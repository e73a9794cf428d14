// What would happen to a desktop when, in sentences: from the server's report of its use.
import type { Instance } from "@/api/client";
import { clock, long } from "./times";

export type Idle = NonNullable<Instance["idle"]>;
export type Policy = Idle["policy"];

/** Returns a time of the report in ms; undefined: there is none. */
export function msOf(time: string | null | undefined): number | undefined {
  const ms = Date.parse(time ?? "");
  return Number.isNaN(ms) ? undefined : ms;
}

/** Returns what the agent's next job has to do with a stop at this time, as the end of a sentence. */
function job({ next_job_at, policy }: Idle, stop: number, now: number): string {
  const due = msOf(next_job_at);
  if (due === undefined || due < now) return "";
  const time = clock(due, now);
  if (due <= stop) return `; the agent's next job is before that, at ${time}, and counts as use`;
  return policy.jobs === "wake"
    ? `; the agent's next job is at ${time} and starts it again`
    : `; the agent's next job, at ${time}, waits until you start the desktop`;
}

/** Returns what would happen when, in sentences. Empty: the desktop does not run, and nothing is due. */
export function outlook(idle: Idle, now: number): string {
  const { policy, state } = idle;
  if (state === "not_running") {
    const [wakes, due] = [msOf(idle.wake_at), msOf(idle.next_job_at)];
    if (wakes !== undefined && wakes >= now) return `Starts again at ${clock(wakes, now)} for the agent's next job.`;
    return due === undefined || due < now
      ? ""
      : `The agent's next job, at ${clock(due, now)}, waits until you start the desktop.`;
  }
  if (state === "off") return "Does not stop by itself.";
  const said: string[] = [];
  const kept = Math.max(msOf(policy.keep_until) ?? 0, msOf(idle.extended_until) ?? 0);
  if (kept > now) said.push(`Kept running until ${clock(kept, now)}.`);
  if (state === "unknown") said.push("The desktop does not report its use at present. That does not count as idle.");
  const stop = msOf(idle.stop_at);
  if (stop !== undefined)
    said.push(
      idle.cause === "ceiling"
        ? `Would stop at ${clock(stop, now)} if you do not use it, even if the agent works: ${long(policy.ceiling_s)} without you is the limit.`
        : `Would stop at ${clock(stop, now)} if not used${job(idle, stop, now)}.`,
    );
  return said.length > 0 ? said.join(" ") : "No stop is due.";
}

/** Returns whether the desktop is in use, in words; undefined: it does not run, or that is not known. */
export function inUseWords(idle: Idle, now: number): string | undefined {
  if (idle.state === "in_use") return "In use.";
  if (idle.state !== "idle") return undefined;
  const last = Math.max(msOf(idle.last_used_at) ?? 0, msOf(idle.last_agent_at) ?? 0);
  return last > 0 ? `Idle since ${clock(last, now)}.` : "Idle.";
}

/** Returns why the control plane stopped a desktop; undefined: it runs, or its user stopped it. */
export const stoppedWords = ({ status, idle }: Pick<Instance, "status" | "idle">): string | undefined =>
  (status === "stopped" || status === "stopping") && idle?.stopped_why
    ? `Stopped by itself. ${idle.stopped_why}`
    : undefined;

/** Returns a policy in sentences. */
export function policyWords(p: Policy): string {
  if (p.after_s === 0 && p.ceiling_s === 0) return "Never stops by itself.";
  const stops = [
    ...(p.after_s > 0 ? [`after ${long(p.after_s)} without any use`] : []),
    ...(p.ceiling_s > 0 ? [`after ${long(p.ceiling_s)} without you, even if the agent works`] : []),
  ].join(", and ");
  const warns = p.warn_s > 0 ? `You are warned ${long(p.warn_s)} before.` : "There is no warning.";
  return `Stops ${stops}. ${warns}`;
}
