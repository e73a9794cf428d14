import { useEffect, useMemo } from "react";
import { session } from "@/api/session";
import { Desktop } from "./Desktop";

const kept = new Map<string, { desktop: Desktop; users: number; end?: ReturnType<typeof setTimeout> }>();
const grace = 5_000; // ms that a desktop nobody uses stays connected: the page may only have changed

// Who logs out leaves no screen behind, not for the grace either.
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

/** The instance's desktop, one for all who use it at a time; connected until the last one has gone. */
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
