// What a desktop costs, as the page shows it between two answers of the server: the time since the answer is added at
// the desktop's price.
import type { Instance } from "@/api/client";
import { duration } from "@/ui/time";
import { dollars, priceOf } from "./money";

export type Cost = NonNullable<Instance["cost"]>;

type Running = Pick<Instance, "status" | "cost">;

/** Returns the start of the UTC month of a time, in ms. */
const monthOf = (ms: number) => {
  const d = new Date(ms);
  return Date.UTC(d.getUTCFullYear(), d.getUTCMonth());
};

/** Returns the costs at the time now of an answer that arrived at the time seen, both in ms. */
export function costAt({ status, cost }: { status: Instance["status"]; cost: Cost }, seen: number, now: number): Cost {
  if (status !== "running") return cost;
  const more = Math.max(0, Math.floor((now - seen) / 1000));
  const hourly = cost.hourly_micros ?? 0;
  // In another month than that of the answer, only what was added since its start counts.
  const start = monthOf(now);
  const month =
    start > seen
      ? priceOf(hourly, Math.floor((now - start) / 1000))
      : cost.month_micros === null
        ? null
        : cost.month_micros + priceOf(hourly, more);
  return {
    ...cost,
    run_seconds: cost.run_seconds + more,
    run_micros: cost.run_micros + priceOf(hourly, more),
    month_micros: month,
  };
}

const arrived = new WeakMap<Cost, number>();

/** Returns when an answer's costs were first drawn: an answer that changes nothing keeps its time. */
export function seenAt(cost: Cost): number {
  const seen = arrived.get(cost) ?? Date.now();
  arrived.set(cost, seen);
  return seen;
}

/** Returns what the run under way has cost: "Running 3 h 20 min, $0.28"; undefined: the desktop does not run. */
export function runWords({ status, cost }: Running): string | undefined {
  if (status !== "running" || !cost) return undefined;
  const time = `Running ${duration(cost.run_seconds * 1000)}`;
  if (!cost.priced) return `${time}, not priced`;
  return cost.run_micros === 0 && !cost.hourly_micros ? time : `${time}, ${dollars(cost.run_micros)}`;
}

/** Returns what the desktop has cost in this month; undefined: nothing, or not known. */
export const monthWords = ({ cost }: Pick<Instance, "cost">): string | undefined =>
  cost?.month_micros ? `${dollars(cost.month_micros)} this month` : undefined;
