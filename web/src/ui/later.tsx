// What pops up is loaded when it is first wanted, or when the browser has nothing else to do: the
// first page is there sooner without it.
import { lazy, Suspense, useState, type ComponentType } from "react";

/** A component that is loaded when its `open` first is true. */
export function whenOpen<P extends { open: boolean }>(load: () => Promise<ComponentType<P>>): ComponentType<P> {
  const Loaded = lazy(async () => ({ default: await load() })) as unknown as ComponentType<P>;
  return function Later(props: P) {
    const [wanted, want] = useState(props.open);
    if (props.open && !wanted) want(true);
    return wanted ? (
      <Suspense>
        <Loaded {...props} />
      </Suspense>
    ) : null;
  };
}

/** Runs load when the browser is idle. */
export function soon(load: () => unknown) {
  if ("requestIdleCallback" in window) requestIdleCallback(() => void load(), { timeout: 3_000 });
  else setTimeout(load, 500);
}
