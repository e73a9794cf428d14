// The tabs of a log-in agree on who notifies: one hidden tab, and only while no tab is visible.

/** Joins the tabs until stop is called. mayNotify reports whether this tab is the one. */
export function joinTabs(login: string): { mayNotify: () => Promise<boolean>; stop: () => void } {
  const { locks } = navigator;
  if (!locks) return { mayNotify: async () => document.visibilityState !== "visible", stop: () => undefined };
  const visible = `cloudbot.visible.${login}`;
  let notifies = false;
  let leave: (() => void) | undefined;
  const join = () => {
    leave?.();
    const control = new AbortController();
    const { signal } = control;
    leave = () => {
      notifies = false;
      control.abort();
    };
    const seen = document.visibilityState === "visible";
    const hold = () => {
      if (signal.aborted) return undefined;
      notifies = !seen;
      return new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    };
    // Visible tabs share a lock, and one of the hidden tabs has the other.
    void locks
      .request(seen ? visible : `cloudbot.notifies.${login}`, { mode: seen ? "shared" : "exclusive", signal }, hold)
      .catch(() => undefined); // left before its turn
  };
  join();
  document.addEventListener("visibilitychange", join);
  return {
    mayNotify: async () => {
      if (!notifies) return false;
      const { held = [], pending = [] } = await locks.query();
      return notifies && ![...held, ...pending].some((l) => l.name === visible);
    },
    stop: () => {
      document.removeEventListener("visibilitychange", join);
      leave?.();
    },
  };
}
