// Code that is not needed at first is loaded when it is wanted, or when the browser is idle, so that the first page
// appears sooner. A part that fails to load is requested again and affects nothing else.
import { useEffect, useState, type ComponentType } from "react";
import { Button } from "./button";
import { WarnIcon } from "./icons";

export type Part<T> = {
  /** Loads it, unless it is loaded. Loading is tried three times; a later call tries again. */
  load: () => Promise<T>;
  /** Returns it, once it is loaded. */
  got: () => T | undefined;
};

const parts: Part<unknown>[] = [];

/** A part that is loaded when it is wanted, or earlier when the browser is idle. */
export function part<T>(load: () => Promise<T>): Part<T> {
  let got: T | undefined;
  let asked: Promise<T> | undefined;
  const ask = async () => {
    for (let tries = 1; ; tries++) {
      try {
        return (got ??= await load());
      } catch (error) {
        if (tries === 3) throw error;
        await new Promise((resolve) => setTimeout(resolve, 300 * tries));
      }
    }
  };
  const it: Part<T> = { got: () => got, load: () => (asked ??= ask().finally(() => (asked = undefined))) };
  parts.push(it);
  return it;
}

/** Loads all parts, one after the other while the browser is idle. */
export function loadParts() {
  const next = (n: number) => {
    const it = parts[n];
    if (!it) return;
    const load = () =>
      void it.load().then(
        () => next(n + 1),
        () => undefined,
      ); // without a server: load when it is wanted
    if ("requestIdleCallback" in window) requestIdleCallback(load, { timeout: 3_000 });
    else setTimeout(load, 500);
  };
  next(0);
}

/** A part while it is wanted: its value once loaded, whether loading failed, and how to retry. */
export function usePart<T>(it: Part<T>, wanted: boolean): { value: T | undefined; failed: boolean; again: () => void } {
  const [failed, fail] = useState(false);
  const [, came] = useState(false);
  const value = it.got();
  useEffect(() => {
    if (!wanted || failed || value) return; // at the last drawing; it may have loaded since
    let here = true;
    it.load().then(
      () => here && came(true),
      () => here && fail(true),
    );
    return () => {
      here = false;
    };
  }, [it, wanted, failed, value]);
  return { value, failed, again: () => fail(false) };
}

/** A component that is loaded when its `open` is first true. */
export function whenOpen<P extends { open: boolean; onClose: () => void }>(
  load: () => Promise<ComponentType<P>>,
): ComponentType<P> {
  const it = part(load);
  return function Later(props: P) {
    const [wanted, want] = useState(props.open);
    if (props.open && !wanted) want(true);
    const { value: Loaded, failed, again } = usePart(it, wanted);
    if (wanted && Loaded) return <Loaded {...props} />;
    return props.open && failed ? <NotLoaded again={again} onClose={props.onClose} /> : null;
  };
}

/** A message over the page: a part could not be loaded. */
export function NotLoaded({ again, onClose }: { again: () => void; onClose: () => void }) {
  return (
    <div
      role="alert"
      className="fixed inset-x-4 top-16 z-[60] mx-auto flex max-w-md flex-wrap items-center gap-2 rounded-lg border border-bad bg-raised p-3 text-left text-sm whitespace-normal text-ink shadow-lg"
    >
      <WarnIcon className="size-5 shrink-0 text-bad" />
      <span className="min-w-0 flex-1 basis-40">This part of the page could not be loaded. Check your connection.</span>
      <Button size="small" onClick={again}>
        Try again
      </Button>
      <Button size="small" variant="quiet" onClick={onClose}>
        Close
      </Button>
    </div>
  );
}
