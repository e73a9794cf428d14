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

export const clockTime = (at: string) =>
  new Date(at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Returns a duration as text: "40 s", "2 min 5 s", "1 h 10 min". */
export function duration(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 3600) return s % 60 && s < 600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.round(s / 60)} min`;
  return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
}
