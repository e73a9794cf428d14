// Short messages over the page. They are part of the first load: an error may come when nothing more can be loaded.
import { useEffect, useEffectEvent, useLayoutEffect, useRef, useState, useSyncExternalStore } from "react";
import { createPortal } from "react-dom";
import { Button } from "./button";
import { CloseIcon } from "./icons";
import type { Tone } from "./notice";

type Action = { label: string; onSelect: () => void };
type Toast = { id: number; title: string; detail?: string; tone: Tone; action?: Action };

const most = 4;
const edge: Record<Tone, string> = {
  good: "border-l-good",
  warn: "border-l-warn",
  bad: "border-l-bad",
  info: "border-l-accent",
};

let toasts: Toast[] = [];
let ids = 0;
const listeners = new Set<() => void>();
function set(now: Toast[]) {
  toasts = now;
  for (const l of listeners) l();
}
const subscribe = (l: () => void) => (listeners.add(l), () => void listeners.delete(l));

/** Shows a short message; errors stay longer. action: a button that also closes the message. */
export function toast({ tone = "info", ...said }: Omit<Toast, "id" | "tone"> & { tone?: Tone }) {
  set([...toasts, { id: ids++, tone, ...said }].slice(-most));
}

const subscribeFull = (changed: () => void) => {
  document.addEventListener("fullscreenchange", changed);
  return () => document.removeEventListener("fullscreenchange", changed);
};

/** The place of the toasts: within the full-screen element, if there is one, because all else is inert. */
export function Toasts() {
  const full = useSyncExternalStore(subscribeFull, () => document.fullscreenElement);
  return full ? createPortal(<List />, full) : <List />;
}

/** They stay while the pointer or the focus is on them. */
function List() {
  const list = useSyncExternalStore(subscribe, () => toasts);
  const box = useRef<HTMLElement>(null);
  const before = useRef<HTMLElement>(null);
  const [held, hold] = useState({ pointer: false, focus: false });
  const [top, place] = useState(0);
  useLayoutEffect(() => {
    const find = () => {
      if (list.length > 0 && box.current) place(freePlace(box.current));
    };
    find();
    window.addEventListener("resize", find);
    return () => window.removeEventListener("resize", find);
  }, [list]);
  const close = (id: number) => {
    const inside = box.current?.contains(document.activeElement);
    set(toasts.filter((t) => t.id !== id));
    hold({ pointer: false, focus: false }); // a removed element reports no leaving
    if (inside) before.current?.focus();
  };
  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- it only waits for who reads it
    <section
      ref={box}
      aria-label="Notifications"
      aria-live="polite"
      aria-relevant="additions text"
      style={{ top }}
      className="fixed inset-x-4 z-[60] mx-auto flex max-w-sm flex-col gap-2"
      onPointerEnter={() => hold((h) => ({ ...h, pointer: true }))}
      onPointerLeave={() => hold((h) => ({ ...h, pointer: false }))}
      onFocus={(e) => {
        if (!e.currentTarget.contains(e.relatedTarget)) before.current = e.relatedTarget as HTMLElement | null;
        hold((h) => ({ ...h, focus: true }));
      }}
      onBlur={() => hold((h) => ({ ...h, focus: false }))}
    >
      {list.map((t) => (
        <Item key={t.id} toast={t} held={held.pointer || held.focus} onClose={() => close(t.id)} />
      ))}
    </section>
  );
}

function Item({ toast: t, held, onClose }: { toast: Toast; held: boolean; onClose: () => void }) {
  const close = useEffectEvent(onClose);
  useEffect(() => {
    if (held) return;
    const timer = setTimeout(() => close(), t.tone === "bad" ? 15_000 : 6_000);
    return () => clearTimeout(timer);
  }, [held, t]);
  return (
    <div
      role={t.tone === "bad" ? "alert" : undefined}
      className={`flex items-start gap-3 rounded-lg border border-l-4 border-line bg-raised p-3 text-sm text-ink shadow-lg ${edge[t.tone]}`}
    >
      <div className="min-w-0 flex-1 break-words">
        <p className="font-semibold">{t.title}</p>
        {t.detail && <p className="text-muted">{t.detail}</p>}
        {t.action && (
          <Button
            size="small"
            className="mt-2"
            onClick={() => {
              t.action?.onSelect();
              onClose();
            }}
          >
            {t.action.label}
          </Button>
        )}
      </div>
      <button
        type="button"
        aria-label="Close"
        onClick={onClose}
        className="inline-flex size-7 shrink-0 items-center justify-center rounded hover:bg-sunken"
      >
        <CloseIcon className="size-4" />
      </button>
    </div>
  );
}

/** Returns the highest place below the bar where the box covers no control, or the fewest. */
function freePlace(box: HTMLElement): number {
  const { left, right, height } = box.getBoundingClientRect();
  const controls = [...document.querySelectorAll("a[href], button, input, textarea, select, summary, [role=separator]")]
    .filter((e) => !box.contains(e))
    .map((e) => e.getBoundingClientRect())
    .filter((r) => r.width > 1 && r.height > 1 && r.right > left && r.left < right); // not text for screen readers only
  const bar = document.querySelector("header")?.getBoundingClientRect().bottom ?? 0;
  let best = { top: bar + 8, covers: Infinity };
  for (let top = best.top; top + height + 8 <= innerHeight; top += 8) {
    const covers = controls.filter((r) => r.bottom > top && r.top < top + height).length;
    if (covers < best.covers) best = { top, covers };
  }
  return best.top;
}
