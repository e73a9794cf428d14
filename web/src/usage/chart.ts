// The layout of the month's chart: one column a day, with a part for each desktop. Pure, in percent of the chart.
import { dollars, exactly } from "@/money/money";
import type { Usage } from "@/money/queries";

type UsedDay = Usage["desktops"][number]["days"][number];

/** Returns what a desktop cost on a day. */
export const costOf = (d: UsedDay) => d.compute_micros + d.disk_micros + d.address_micros + d.model_micros;

/** Desktops with their own colour; the others of a month share the last one. */
export const colours = 7;

export type Series = {
  /** The desktop's ID; "" for all that have no colour of their own. */
  id: string;
  name: string;
  colour: number;
};

export type Part = { series: Series; micros: number; bottom: number; height: number };
export type Column = { day: string; micros: number; parts: Part[] };
export type Tick = { micros: number; bottom: number };
export type Chart = { series: Series[]; columns: Column[]; ticks: Tick[] };

/** Returns the least of 1, 2 and 5 times a power of ten that is at least so much. */
function round(micros: number): number {
  let power = 1;
  while (power * 10 <= micros) power *= 10;
  return power * ([1, 2, 5, 10].find((n) => n * power >= micros) ?? 10);
}

/** Returns three to five round amounts from 0; the last is at least the most expensive day. */
export function ticksOf(most: number): number[] {
  const step = round(Math.max(1, Math.ceil(most / 4)));
  const count = Math.max(1, Math.ceil(most / step));
  return Array.from({ length: count + 1 }, (_, n) => n * step);
}

/** Returns an amount of the scale: with all its decimals if it is no whole number of cents. */
export const tickWords = (micros: number) => (micros % 10_000 === 0 ? dollars(micros) : exactly(micros));

export function layout(usage: Pick<Usage, "days" | "desktops">): Chart {
  const dear = usage.desktops.filter((d) => d.total_micros > 0).toSorted((a, b) => b.total_micros - a.total_micros);
  const own = dear.length > colours ? colours - 1 : colours;
  const series: Series[] = dear.slice(0, own).map((d, colour) => ({ id: d.id, name: d.name, colour }));
  if (dear.length > own) series.push({ id: "", name: `${dear.length - own} other desktops`, colour: colours });
  const found = new Map(dear.map((d, n) => [d.id, series[Math.min(n, series.length - 1)]!]));

  const sums = new Map(usage.days.map((day) => [day, new Map<Series, number>()]));
  for (const desktop of dear) {
    const its = found.get(desktop.id)!;
    for (const d of desktop.days) {
      const sum = sums.get(d.day);
      sum?.set(its, (sum.get(its) ?? 0) + costOf(d));
    }
  }
  const totals = [...sums.values()].map((parts) => [...parts.values()].reduce((a, b) => a + b, 0));
  const ticks = ticksOf(Math.max(0, ...totals));
  const top = ticks.at(-1)!;
  const share = (micros: number) => (micros / top) * 100;
  const columns = usage.days.map((day, n): Column => {
    let below = 0;
    const parts = series.flatMap((its): Part[] => {
      const micros = sums.get(day)!.get(its) ?? 0;
      if (micros === 0) return [];
      const part = { series: its, micros, bottom: share(below), height: share(micros) };
      below += micros;
      return [part];
    });
    return { day, micros: totals[n]!, parts };
  });
  return { series, columns, ticks: ticks.map((micros) => ({ micros, bottom: share(micros) })) };
}

/** Returns the day to which a key leads from another; undefined: the key does nothing here. */
export function dayAfter(key: string, at: number, days: number): number | undefined {
  const to: Record<string, number> = {
    ArrowRight: at + 1,
    ArrowUp: at + 1,
    ArrowLeft: at - 1,
    ArrowDown: at - 1,
    PageDown: at - 7,
    PageUp: at + 7,
    Home: 0,
    End: days - 1,
  };
  const n = to[key];
  return n === undefined ? undefined : Math.min(days - 1, Math.max(0, n));
}
