import { useSyncExternalStore } from "react";

// One clock for all components: it ticks while one of them uses it.
function clock(every: number) {
  let now = Date.now();
  const listeners = new Set<() => void>();
  let timer: ReturnType<typeof setInterval> | undefined;
  const tick = () => {
    now = Date.now();
    for (const l of listeners) l();
  };
  const subscribe = (l: () => void) => {
    listeners.add(l);
    if (!timer) {
      now = Date.now();
      timer = setInterval(tick, every);
    }
    return () => {
      listeners.delete(l);
      if (listeners.size === 0) {
        clearInterval(timer);
        timer = undefined;
      }
    };
  };
  return { subscribe, now: () => (timer ? now : (now = Math.floor(Date.now() / every) * every)) };
}

const minutes = clock(30_000);
const seconds = clock(500);

/** Returns the time in ms, updated twice a second. */
export const useNow = () => useSyncExternalStore(seconds.subscribe, seconds.now);

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** A time as "5 minutes ago", its date on hover. */
export function Ago({ at }: { at: string }) {
  const now = useSyncExternalStore(minutes.subscribe, minutes.now);
  const date = new Date(at);
  return (
    <time dateTime={at} title={absolute.format(date)}>
      {ago(date.getTime() - now)}
    </time>
  );
}

function ago(ms: number): string {
  const s = Math.min(0, ms / 1000); // clocks differ: no time is in the future
  if (s > -45) return "less than a minute ago";
  if (s > -3600) return relative.format(Math.round(s / 60), "minute");
  if (s > -86_400) return relative.format(Math.round(s / 3600), "hour");
  return relative.format(Math.round(s / 86_400), "day");
}

/** Returns the time that is left before a deadline as text: "45 s left", "4 min left"; undefined after the deadline. */
export function timeLeft(ms: number): string | undefined {
  const s = Math.floor(ms / 1000);
  if (s <= 0) return undefined;
  if (s < 60) return `${s} s left`;
  if (s < 3600) return `${Math.floor(s / 60)} min left`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min left`;
}

const lastTime = 8.64e15; // in ms, which a Date can hold

/** The time that is left, after some text; nothing if the deadline is unknown, over, or none: a machine may name any. */
export function TimeLeft({ until, before = "" }: { until: number | undefined; before?: string }) {
  return until === undefined || !(Math.abs(until) <= lastTime) ? null : <Left until={until} before={before} />;
}

function Left({ until, before }: { until: number; before: string }) {
  const left = timeLeft(until - useNow());
  return left === undefined ? null : (
    <time dateTime={new Date(until).toISOString()} title={absolute.format(until)}>
      {before}
      {left}
    </time>
  );
}

/** Returns the time of day; brief: without seconds. */
export const clockTime = (at: string, brief = false) =>
  new Date(at).toLocaleTimeString(undefined, {
    hour: "2-digit",
    minute: "2-digit",
    ...(brief ? {} : { second: "2-digit" }),
  });

/** Returns a duration as text: "40 s", "2 min 5 s", "1 h 10 min". */
export function duration(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 600) return s % 60 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${s / 60} min`;
  const min = Math.round(s / 60);
  return min < 60 ? `${min} min` : `${Math.floor(min / 60)} h ${min % 60} min`;
}
