import { useEffect, useMemo } from "react";
import { session } from "@/api/session";
import { Desktop } from "./Desktop";

const kept = new Map<string, { desktop: Desktop; users: number; end?: ReturnType<typeof setTimeout> }>();
const grace = 5_000; // ms that an unused desktop stays connected: the page may only have changed

// After a log-out no screen is left, not even for the grace period.
let { login } = session.getSnapshot();
session.subscribe(() => {
  const now = session.getSnapshot().login;
  if (now === login) return;
  login = now;
  for (const { desktop, end } of kept.values()) {
    clearTimeout(end);
    desktop.close();
  }
  kept.clear();
});

/** Returns the instance's desktop, shared by all its users; connected until the last user has gone. */
export function useDesktop(id: string): Desktop {
  const desktop = useMemo(() => of(id).desktop, [id]);
  useEffect(() => {
    const entry = of(id, desktop);
    entry.users++;
    clearTimeout(entry.end);
    return () => {
      if (--entry.users > 0) return;
      entry.end = setTimeout(() => {
        if (kept.get(id) === entry) kept.delete(id);
        desktop.close();
      }, grace);
    };
  }, [id, desktop]);
  return desktop;
}

function of(id: string, desktop?: Desktop) {
  let entry = kept.get(id);
  if (!entry) {
    entry = { desktop: desktop ?? new Desktop(id), users: 0 };
    kept.set(id, entry);
  }
  return entry;
}
