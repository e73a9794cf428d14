// The form of an idle policy: its fields as text, and the policy that they mean.
import type { Policy } from "./outlook";

/** A duration as the form has it: one of the choices in seconds, or a number of units that the user typed. */
export type Duration = { choice: string; number: string; unit: string };

export const own = "own";

export const choices = {
  after: [900, 1_800, 3_600, 7_200, 14_400, 28_800],
  warn: [60, 300, 600, 1_800],
  ceiling: [28_800, 86_400, 259_200, 604_800],
};

export const unitSeconds: Record<string, number> = { seconds: 1, minutes: 60, hours: 3_600, days: 86_400 };

/** Returns the units that a user can choose: seconds only where the operator allows such short limits. */
export const unitsFor = (shortest: number) =>
  Object.keys(unitSeconds).filter((unit) => unit !== "seconds" || shortest < 60);

/** Returns the form's fields for a duration in seconds; 0 is the choice of none. */
export function durationOf(seconds: number, offered: readonly number[]): Duration {
  const [unit, s] = Object.entries(unitSeconds).findLast(([, u]) => seconds >= u && seconds % u === 0) ?? [
    "minutes",
    60,
  ];
  const listed = seconds === 0 || offered.includes(seconds);
  return { choice: listed ? String(seconds) : own, number: seconds === 0 ? "" : String(seconds / s), unit };
}

/** Returns a duration in seconds; undefined: what is typed is not a whole number of at least one. */
export function secondsOf({ choice, number, unit }: Duration): number | undefined {
  if (choice !== own) return Number(choice);
  if (!/^[1-9]\d{0,6}$/.test(number.trim())) return undefined;
  return Number(number) * (unitSeconds[unit] ?? 1);
}

export type Fields = {
  after: Duration;
  warn: Duration;
  ceiling: Duration;
  keep: string; // local date and time, as the browser's field has it; empty: none
  jobs: Policy["jobs"];
};

const two = (n: number) => String(n).padStart(2, "0");

/** Returns a time as the value of a field for a local date and time. */
export function localTime(ms: number): string {
  const d = new Date(ms);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}T${two(d.getHours())}:${two(d.getMinutes())}`;
}

/** Returns the fields of a policy. A time that has passed keeps no desktop running, so it is left out. */
export function fieldsOf(p: Policy, now: number): Fields {
  const keep = Date.parse(p.keep_until ?? "");
  return {
    after: durationOf(p.after_s, choices.after),
    warn: durationOf(p.warn_s, choices.warn),
    ceiling: durationOf(p.ceiling_s, choices.ceiling),
    keep: keep > now ? localTime(keep) : "",
    jobs: p.jobs,
  };
}

export type Wrong = { [f in "after" | "warn" | "ceiling" | "keep"]?: string | undefined };

/** Returns the policy of the fields, or what is wrong with them. The server checks the limits. */
export function policyOf(f: Fields): { policy: Policy } | { wrong: Wrong } {
  const whole = "Enter a whole number of at least 1.";
  const [after, warn, ceiling] = [secondsOf(f.after), secondsOf(f.warn), secondsOf(f.ceiling)];
  const keep = f.keep === "" ? undefined : Date.parse(f.keep);
  if (after === undefined || warn === undefined || ceiling === undefined || Number.isNaN(keep))
    return {
      wrong: {
        after: after === undefined ? whole : undefined,
        warn: warn === undefined ? whole : undefined,
        ceiling: ceiling === undefined ? whole : undefined,
        keep: Number.isNaN(keep) ? "Enter a date and a time." : undefined,
      },
    };
  return {
    policy: {
      after_s: after,
      warn_s: warn,
      ceiling_s: ceiling,
      ...(keep === undefined ? {} : { keep_until: new Date(keep).toISOString() }),
      jobs: f.jobs,
    },
  };
}

/** Returns the form's field that a refusal of the server is about. */
export function fieldOf(name: string | undefined): keyof Wrong | undefined {
  const fields: Record<string, keyof Wrong> = {
    after_s: "after",
    warn_s: "warn",
    ceiling_s: "ceiling",
    keep_until: "keep",
  };
  return fields[name?.split(".").at(-1) ?? ""];
}
