import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Notifications } from "./notifications";
import type { Waiting } from "./waiting";

class Page extends EventTarget {
  visibilityState = "visible";
  turn(state: "visible" | "hidden") {
    this.visibilityState = state;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

class FakeNotification extends EventTarget {
  static permission = "granted";
  closed = false;
  constructor(
    readonly title: string,
    readonly options: NotificationOptions,
  ) {
    super();
    shown.push(this);
  }
  close() {
    this.closed = true;
  }
}

/** Locks of one browser: shared ones together, exclusive ones alone. */
function fakeLocks() {
  type Held = { name: string; mode: string; at: (() => void) | undefined };
  const all: Held[] = [];
  const next = () => {
    for (const l of all) {
      const others = all.filter((o) => o.name === l.name && o !== l && !o.at);
      if (l.at && others.every((o) => o.mode === "shared" && l.mode === "shared")) {
        const start = l.at;
        l.at = undefined;
        start();
      }
    }
  };
  return {
    query: async () => ({ held: all.filter((l) => !l.at), pending: all.filter((l) => l.at) }),
    request: (name: string, { mode, signal }: { mode: string; signal: AbortSignal }, f: () => Promise<void>) =>
      new Promise<void>((resolve, reject) => {
        const mine: Held = { name, mode, at: () => void f().then(leave) };
        const leave = () => {
          all.splice(all.indexOf(mine), 1);
          resolve();
          next();
        };
        all.push(mine);
        signal.addEventListener("abort", () => {
          if (!mine.at) return;
          all.splice(all.indexOf(mine), 1);
          reject(signal.reason as Error);
          next();
        });
        next();
      }),
  };
}

let page: Page;
let other: Page;
let shown: FakeNotification[];
let stored: Map<string, string>;

/** Runs a part as the tab with this document would. */
function inTab<T>(of: Page, f: () => T): T {
  vi.stubGlobal("document", of);
  return f();
}

beforeEach(() => {
  page = new Page();
  other = new Page();
  shown = [];
  stored = new Map();
  FakeNotification.permission = "granted";
  vi.stubGlobal("document", page);
  vi.stubGlobal("window", { focus: vi.fn<() => void>() });
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("removeEventListener", () => undefined);
  vi.stubGlobal("isSecureContext", true);
  vi.stubGlobal("localStorage", { getItem: (k: string) => stored.get(k) ?? null });
  vi.stubGlobal("navigator", { userAgent: "Chrome", locks: fakeLocks() });
  vi.stubGlobal("Notification", FakeNotification);
});
afterEach(() => vi.unstubAllGlobals());

const waits = (id: string, count = 1, until = 1e12): Waiting => ({ id, name: `Desktop ${id}`, count, until });

test("a hidden tab notifies of each new waiting once, and closes what no longer waits", async () => {
  const open = vi.fn<(of: Waiting) => void>();
  const n = new Notifications("login", open);
  await n.update([waits("seen")]);
  page.turn("hidden");
  await n.update([waits("seen")]);
  expect(shown, "the user saw it").toEqual([]);

  await n.update([waits("seen"), waits("a")]);
  await n.update([waits("seen"), waits("a")]);
  expect(shown.map((s) => s.title)).toEqual(["The agent on Desktop a needs your answer"]);
  expect(shown[0]!.options.tag).toBe("cloudbot.a");
  expect(shown[0]!.closed).toBe(false);
  await n.update([waits("seen")]);
  expect(shown[0]!.closed).toBe(true);

  await n.update([waits("b"), waits("c")]);
  shown[1]!.dispatchEvent(new Event("click"));
  expect(open.mock.calls).toEqual([[waits("b")]]);
  expect(window.focus).toHaveBeenCalledOnce();
  n.stop();
  expect(shown.map((s) => s.closed)).toEqual([true, true, true]);
});

test("a stop and an answer of one desktop are two notifications", async () => {
  const n = new Notifications("login", () => undefined);
  page.turn("hidden");
  await n.update([]); // its lock is released meanwhile
  const stop: Waiting = { ...waits("a"), stops: true };
  await n.update([waits("a"), stop]);
  expect(shown.map((s) => s.title)).toEqual(["The agent on Desktop a needs your answer", "Desktop a stops soon"]);
  expect(shown.map((s) => s.options.tag)).toEqual(["cloudbot.a", "cloudbot.a.stop"]);
  expect(shown[1]!.options.body).toMatch(/^It stops at .* unless you keep it running\.$/);
  await n.update([waits("a")]);
  expect(shown.map((s) => s.closed)).toEqual([false, true]);
  n.stop();
});

test.each([
  ["the user refused", () => stored.set("cloudbot.notify", "off")],
  ["the browser was not asked", () => void (FakeNotification.permission = "default")],
  ["the browser blocks it", () => void (FakeNotification.permission = "denied")],
])("nothing is shown if %s", async (_, make) => {
  make();
  const n = new Notifications("login", () => undefined);
  page.turn("hidden");
  await n.update([waits("a")]);
  expect(shown).toEqual([]);
  n.stop();
});

test("of several tabs one notifies, and none while one of them is visible", async () => {
  const [a, b] = [page, other].map((p) => inTab(p, () => new Notifications("login", () => undefined)));
  const update = (...now: Waiting[]) => Promise.all([a!.update(now), b!.update(now)]);
  inTab(page, () => page.turn("hidden"));
  await update(waits("a"));
  expect(shown, "the other tab is visible").toEqual([]);
  inTab(other, () => other.turn("hidden"));
  await new Promise((resolve) => setTimeout(resolve)); // its lock is released
  await update(waits("a"), waits("b"));
  expect(shown.map((s) => s.title)).toEqual(["The agent on Desktop b needs your answer"]);

  a!.stop();
  await new Promise((resolve) => setTimeout(resolve));
  await update(waits("a"), waits("b"), waits("c"));
  expect(
    shown.map((s) => s.options.tag),
    "the tab that is left",
  ).toEqual(["cloudbot.b", "cloudbot.c"]);
  b!.stop();
});
