// The state of budgets, in sentences and as bars.
import { dollars } from "@/money/money";
import type { Budgets } from "@/money/queries";

export type Limit = Budgets["limits"][number];
export type Spent = Budgets["spent"][number];
export type Period = "day" | "month";

export type Bar = {
  period: Period;
  spent: number;
  limit: number;
  /** Percent of the limit; above 100 once it is passed. */
  percent: number;
};

/** The shares of a limit at which the account is warned, and at which desktops are stopped. */
export const marks = [50, 80, 100];

/** Returns the bars of a scope, one for each limit that is set. */
export function barsOf(limit: Limit | undefined, spent: Spent | undefined): Bar[] {
  return (["day", "month"] as const).flatMap((period): Bar[] => {
    const most = limit?.[`${period}_micros`];
    if (most == null) return [];
    const now = spent?.[`${period}_micros`] ?? 0;
    const percent = spent?.[`${period}_percent`] ?? (most === 0 ? 100 : Math.floor((now / most) * 100));
    return [{ period, spent: now, limit: most, percent }];
  });
}

const periods = { day: "today", month: "this month" };
const next = { day: "00:00 UTC", month: "the first day of the next month, 00:00 UTC" };

/** Returns how much of a limit is used: "$3.20 of $5.00 used today, 64 %". */
export const usedWords = ({ period, spent, limit, percent }: Bar) =>
  `${dollars(spent)} of ${dollars(limit)} used ${periods[period]}, ${percent} %`;

/** Returns what follows from it, as a sentence. all: the limit is of all desktops together. */
export function stateWords({ period, percent }: Bar, all: boolean): string {
  const which = all ? "All desktops are" : "The desktop is";
  const them = all ? "They" : "It";
  if (percent >= 100)
    return `The limit is reached: ${which.toLowerCase()} stopped, never deleted. ${them} can start again at ${next[period]}, or when you raise the limit.`;
  if (percent >= 80) return `More than 80 % is used. ${which} stopped at 100 %, never deleted.`;
  if (percent >= 50) return `More than half is used. ${which} stopped at 100 %, never deleted.`;
  return `${which} stopped at 100 %, never deleted.`;
}

export type Reached = { all: boolean; period: Period; limit: number };

/** Returns the reached budget that keeps a desktop stopped; undefined: none. The desktop's own comes first. */
export function reachedFor(id: string, { limits, spent }: Budgets): Reached | undefined {
  for (const scope of [id, "account"]) {
    const bars = barsOf(
      limits.find((l) => l.scope === scope),
      spent.find((s) => s.scope === scope),
    );
    // The month's lasts longer than the day's.
    const bar = bars.findLast((b) => b.percent >= 100);
    if (bar) return { all: scope === "account", period: bar.period, limit: bar.limit };
  }
  return undefined;
}

/** Returns why a desktop cannot run, as a sentence. */
export function reachedWords({ all, period, limit }: Reached): string {
  const of = all ? "The budget of all your desktops" : "This desktop's budget";
  return `${of}, ${dollars(limit)} a ${period}, is used up. Desktops are stopped, never deleted. It can start again at ${next[period]}, or when you raise the budget.`;
}
