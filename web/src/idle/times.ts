// Times and durations in sentences about idle stops.

const day = 86_400_000;
const midnight = (ms: number) => new Date(ms).setHours(0, 0, 0, 0);

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long" });

/** Returns a time as part of a sentence: "18:32", "18:32 tomorrow", "18:32 on 3 December". */
export function clock(ms: number, now: number): string {
  const hour = time.format(ms);
  const days = Math.round((midnight(ms) - midnight(now)) / day); // a day of a clock change has 23 or 25 hours
  if (days === 0) return hour;
  if (days === 1) return `${hour} tomorrow`;
  if (days === -1) return `${hour} yesterday`;
  return `${hour} on ${days > 1 && days < 7 ? weekday.format(ms) : date.format(ms)}`;
}

const units = [
  { s: 86_400, one: "day" },
  { s: 3_600, one: "hour" },
  { s: 60, one: "minute" },
  { s: 1, one: "second" },
];

/** Returns a duration in its largest exact units: "1 hour", "90 minutes", "1 day". */
export function long(seconds: number): string {
  // More than two of a smaller unit say more than one and a half of a larger one.
  const { s, one } = units.find((u) => seconds >= u.s && seconds % u.s === 0) ?? units.at(-1)!;
  const n = seconds / s;
  return `${n} ${one}${n === 1 ? "" : "s"}`;
}
