// Months and days of UTC, as the server counts them.

/** Returns the month of a time in ms: "2026-11". */
export const monthAt = (ms: number) => new Date(ms).toISOString().slice(0, 7);

/** Returns a month that is so many months later. */
export function monthAfter(month: string, by: number): string {
  const [year = 0, m = 1] = month.split("-").map(Number);
  return monthAt(Date.UTC(year, m - 1 + by, 1));
}

/** Returns the months of the last year up to this one, newest first, and the shown one if it is earlier. */
export function recentMonths(now: number, shown: string): string[] {
  const list = Array.from({ length: 13 }, (_, n) => monthAfter(monthAt(now), -n));
  return list.includes(shown) ? list : [...list, shown];
}

const named = new Intl.DateTimeFormat(undefined, { month: "long", year: "numeric", timeZone: "UTC" });
const whole = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", timeZone: "UTC" });
const brief = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });

/** Returns "November 2026". */
export const monthName = (month: string) => named.format(Date.parse(`${month}-01`));
/** Returns "Saturday, November 28". */
export const dayName = (day: string) => whole.format(Date.parse(day));
/** Returns "Nov 28". */
export const shortDay = (day: string) => brief.format(Date.parse(day));
