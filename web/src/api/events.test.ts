import { AsyncLocalStorage } from "node:async_hooks";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

const signedFetch = vi.hoisted(() => vi.fn<(path: string, init: RequestInit) => Promise<Response>>());
vi.mock("./client", () => ({ signedFetch }));

import { followEvents, keepInBackground, shareEvents } from "./events";

class Page extends EventTarget {
  visibilityState = "visible";
  turn(state: "visible" | "hidden") {
    this.visibilityState = state;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

let page: Page;
let streams: { init: RequestInit; send: (text: string) => void; end: () => void; open: boolean }[];

beforeEach(() => {
  vi.useFakeTimers();
  page = new Page();
  vi.stubGlobal("document", page);
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("removeEventListener", () => undefined);
  streams = [];
  signedFetch.mockImplementation(async (_, init) => {
    const s = { init, send: (_text: string) => undefined as void, end: () => undefined as void, open: true };
    streams.push(s);
    const body = new ReadableStream<Uint8Array>({
      start(c) {
        s.send = (text) => c.enqueue(new TextEncoder().encode(text));
        s.end = () => c.close();
        init.signal?.addEventListener("abort", () => {
          if (!s.open) return;
          s.open = false;
          c.error(init.signal?.reason);
        });
      },
    });
    return new Response(body);
  });
});
afterEach(() => {
  keepInBackground(() => false);
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("a hidden page closes its connection, and resumes when it is visible", async () => {
  const states: string[] = [];
  const opened: boolean[] = [];
  const types: string[] = [];
  const control = new AbortController();
  const done = followEvents(
    {
      onEvent: (e) => types.push(e.type),
      onReset: () => undefined,
      onOpen: (resumed) => opened.push(resumed),
      onState: (s) => states.push(s),
    },
    control.signal,
  );
  await vi.advanceTimersByTimeAsync(10);
  streams[0]!.send('id: 7\nevent: a\ndata: {"type":"a"}\n\n');
  await vi.advanceTimersByTimeAsync(10);
  expect(types).toEqual(["a"]);

  page.turn("hidden");
  await vi.advanceTimersByTimeAsync(29_000);
  page.turn("visible"); // only briefly hidden
  await vi.advanceTimersByTimeAsync(5_000);
  expect(streams.map((s) => s.open)).toEqual([true]);

  page.turn("hidden");
  await vi.advanceTimersByTimeAsync(600_000);
  expect(streams.map((s) => s.open)).toEqual([false]);
  page.turn("visible");
  await vi.advanceTimersByTimeAsync(10);
  expect(streams.map((s) => s.open)).toEqual([false, true]);
  expect(streams[1]!.init.headers).toEqual({ "Last-Event-ID": "7" });
  expect(opened).toEqual([false, true]);
  expect(states, "nothing was lost, so nothing is said").toEqual(["connecting", "live", "live"]);
  control.abort();
  await done;
});

test("an unreachable server is reported once, not with each attempt", async () => {
  signedFetch.mockRejectedValue(new Error("offline"));
  const states: string[] = [];
  const control = new AbortController();
  const done = followEvents(
    { onEvent: () => undefined, onReset: () => undefined, onOpen: () => undefined, onState: (s) => states.push(s) },
    control.signal,
  );
  await vi.advanceTimersByTimeAsync(60_000);
  expect(signedFetch.mock.calls.length).toBeGreaterThan(3);
  expect(new Set(states.slice(1))).toEqual(new Set(["waiting"]));
  control.abort();
  await done;
});

test("a server that rejects the last event's id is asked for new events", async () => {
  const opened: boolean[] = [];
  const control = new AbortController();
  const done = followEvents(
    {
      onEvent: () => undefined,
      onReset: () => undefined,
      onOpen: (resumed) => opened.push(resumed),
      onState: () => undefined,
    },
    control.signal,
    "1-7",
  );
  signedFetch.mockResolvedValueOnce(new Response("{}", { status: 400 })); // of the previous version, after a roll-back
  await vi.advanceTimersByTimeAsync(0);
  expect(signedFetch.mock.lastCall![1].headers).toEqual({ "Last-Event-ID": "1-7" });
  await vi.advanceTimersByTimeAsync(5_000);
  expect(streams[0]!.init.headers).toEqual({});
  expect(opened, "it may have missed something").toEqual([false]);
  control.abort();
  await done;
});

test("an orderly end is no lost connection, unless reconnecting fails", async () => {
  const states: string[] = [];
  const control = new AbortController();
  const done = followEvents(
    { onEvent: () => undefined, onReset: () => undefined, onOpen: () => undefined, onState: (s) => states.push(s) },
    control.signal,
  );
  await vi.advanceTimersByTimeAsync(10_000);
  streams[0]!.end();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(streams).toHaveLength(2);
  expect(states).toEqual(["connecting", "live", "live"]);
  signedFetch.mockRejectedValue(new Error("offline"));
  streams[1]!.end();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(states.at(-1)).toBe("waiting");
  control.abort();
  await done;
});

test("a page that was never visible opens no stream", async () => {
  page.turn("hidden");
  const control = new AbortController();
  const done = followEvents(
    { onEvent: () => undefined, onReset: () => undefined, onOpen: () => undefined, onState: () => undefined },
    control.signal,
  );
  await vi.advanceTimersByTimeAsync(60_000);
  expect(streams).toHaveLength(0);
  page.turn("visible");
  await vi.advanceTimersByTimeAsync(10);
  expect(streams).toHaveLength(1);
  control.abort();
  await done;
});

const event = (n: number) => `id: ${n}\nevent: e\ndata: {"type":"e"}\n\n`;
const rest = () => vi.advanceTimersByTimeAsync(50);
const open = () => streams.filter((s) => s.open);

describe("the tabs of a browser", () => {
  const documents = new AsyncLocalStorage<Page>();

  /** A separate tab, on shared locks and channels. */
  function tab(visibility: "visible" | "hidden" = "visible") {
    const own = new Page();
    own.visibilityState = visibility;
    const control = new AbortController();
    const t = { page: own, heard: [] as string[], opened: [] as boolean[], states: [] as string[], control };
    void documents.run(own, () =>
      shareEvents(
        "a",
        {
          onEvent: (e, at) => t.heard.push(`${e.type}${at}`),
          onReset: () => t.heard.push("reset"),
          onOpen: (r) => t.opened.push(r),
          onState: (s) => t.states.push(s),
        },
        control.signal,
      ),
    );
    return t;
  }
  const turn = (t: ReturnType<typeof tab>, state: "visible" | "hidden") =>
    documents.run(t.page, () => t.page.turn(state));
  const leave = async (...tabs: ReturnType<typeof tab>[]) => {
    for (const t of tabs) t.control.abort();
    await rest();
  };

  beforeEach(() => {
    // Each tab has its own document, wherever its code continues.
    vi.stubGlobal(
      "document",
      new Proxy({} as Page, {
        get: (_, key: keyof Page) => {
          const own = documents.getStore() ?? page;
          const value = own[key] as unknown;
          return typeof value === "function" ? (value.bind(own) as unknown) : value;
        },
      }),
    );
    // One queue for the lock, and one for each channel's messages.
    const queue: (() => void)[] = [];
    let held: object | undefined;
    let robbed: ((why: Error) => void) | undefined;
    const next = () => {
      if (!held) queue.shift()?.();
    };
    vi.stubGlobal("navigator", {
      locks: {
        request: (_: string, { signal, steal }: { signal?: AbortSignal; steal?: boolean }, f: () => Promise<void>) =>
          new Promise<void>((resolve, reject) => {
            const take = () => {
              const mine = {};
              held = mine;
              robbed?.(new Error("stolen"));
              robbed = reject;
              void f().then(() => {
                resolve();
                if (held !== mine) return;
                held = robbed = undefined;
                next();
              });
            };
            if (steal) return take();
            queue.push(take);
            signal?.addEventListener("abort", () => {
              const at = queue.indexOf(take);
              if (at < 0) return;
              queue.splice(at, 1);
              reject(signal.reason as Error);
            });
            next();
          }),
      },
    });
    const channels = new Set<EventTarget>();
    vi.stubGlobal(
      "BroadcastChannel",
      class extends EventTarget {
        constructor() {
          super();
          channels.add(this);
        }
        postMessage(data: unknown) {
          for (const c of channels) if (c !== this) c.dispatchEvent(new MessageEvent("message", { data }));
        }
        close() {
          channels.delete(this);
        }
      },
    );
  });

  test("share one stream, and the next tab resumes where the first one stopped", async () => {
    const [a, b, c] = [tab(), tab(), tab("hidden")];
    await rest();
    expect(streams).toHaveLength(1);
    streams[0]!.send(event(7) + event(9));
    await rest();
    for (const t of [a, b, c]) {
      expect(t.heard).toEqual(["e7", "e9"]);
      expect(t.states.at(-1)).toBe("live");
      expect(t.opened).toEqual([false]);
    }

    await leave(a);
    expect(open()).toHaveLength(1);
    expect(streams[1]!.init.headers).toEqual({ "Last-Event-ID": "9" });
    streams[1]!.send(event(12));
    await rest();
    expect(a.heard).toEqual(["e7", "e9"]);
    for (const t of [b, c]) {
      expect(t.heard).toEqual(["e7", "e9", "e12"]);
      expect(t.opened).toEqual([false, true]); // nothing was missed
    }

    // A new tab knows nothing of the past, and has missed nothing since.
    const d = tab();
    await rest();
    expect(d.opened).toEqual([false]);
    expect(d.states.at(-1)).toBe("live");
    streams[1]!.send(event(13));
    await rest();
    expect(d.heard).toEqual(["e13"]);
    expect(d.opened).toEqual([false]);
    await leave(b, c, d);
  });

  test("learn that the server was restored, and continue in its new epoch", async () => {
    const [a, b] = [tab(), tab()];
    await rest();
    streams[0]!.send('id: 1-9\nevent: e\ndata: {"type":"e"}\n\n');
    streams[0]!.send('id: 2-0\nevent: reset\ndata: {"epoch":2}\n\n');
    streams[0]!.send('id: 2-3\nevent: e\ndata: {"type":"e"}\n\n');
    await rest();
    for (const t of [a, b]) {
      expect(t.heard).toEqual(["e1-9", "reset", "e2-3"]);
      expect(t.opened, "nothing else was missed").toEqual([false]);
    }
    await leave(a);
    expect(streams[1]!.init.headers).toEqual({ "Last-Event-ID": "2-3" });
    await leave(b);
  });

  test("after a reset as the last message, a broken stream resumes from the reset", async () => {
    const a = tab();
    await rest();
    streams[0]!.send('id: 1-9\nevent: e\ndata: {"type":"e"}\n\n');
    streams[0]!.send('id: 2-0\nevent: reset\ndata: {"epoch":2}\n\n');
    await rest();
    streams[0]!.end();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(streams[1]!.init.headers).toEqual({ "Last-Event-ID": "2-0" });
    await leave(a);
  });

  test("a hidden tab hands the stream to a visible one", async () => {
    const a = tab();
    const b = tab();
    await rest();
    streams[0]!.send(event(7));
    await rest();
    turn(a, "hidden");
    await vi.advanceTimersByTimeAsync(31_000);
    expect(streams.map((s) => s.open)).toEqual([false, true]);
    streams[1]!.send(event(8));
    await rest();
    expect(a.heard).toEqual(["e7", "e8"]); // it is still reported
    await leave(a, b);
  });

  test("a tab that the browser suspended loses the stream to a visible one", async () => {
    // It holds the lock, and neither sends nor does anything.
    void navigator.locks
      .request("cloudbot.events.a", {}, () => new Promise<void>(() => undefined))
      .catch(() => undefined);
    const b = tab();
    await vi.advanceTimersByTimeAsync(39_000);
    expect(streams).toHaveLength(0);
    await vi.advanceTimersByTimeAsync(12_000);
    expect(open()).toHaveLength(1);
    streams[0]!.send(event(7));
    await rest();
    expect([b.heard, b.states.at(-1)]).toEqual([["e7"], "live"]);
    // The tab waiting for it now does not steal it: it reports that it is alive.
    const c = tab();
    await vi.advanceTimersByTimeAsync(300_000);
    expect([streams.filter((s) => s.open).length, c.states.at(-1)]).toEqual([1, "live"]);
    await leave(b, c);
  });

  test("a tab whose lock is stolen closes its stream", async () => {
    const a = tab();
    await rest();
    expect(open()).toHaveLength(1);
    void navigator.locks
      .request("cloudbot.events.a", { steal: true }, () => new Promise<void>(() => undefined))
      .catch(() => undefined);
    await rest();
    expect(open()).toHaveLength(0);
    await leave(a);
  });

  test("a stream that breaks while its tab is hidden is reconnected by a visible tab", async () => {
    const a = tab();
    const b = tab();
    await rest();
    turn(a, "hidden");
    streams[0]!.end();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(open()).toHaveLength(1);
    expect(b.states.at(-1)).toBe("live");
    await leave(a, b);
  });

  test("hidden tabs of a user who wants notifications keep one stream", async () => {
    keepInBackground(() => true);
    page.turn("hidden"); // for timers, which know no tab
    const a = tab();
    const b = tab("hidden");
    await rest();
    turn(a, "hidden");
    await vi.advanceTimersByTimeAsync(600_000);
    expect(streams.length, "the silent server is given up again and again").toBeGreaterThan(5);
    expect(open()).toHaveLength(1);
    streams.at(-1)!.send(event(7));
    await rest();
    streams.at(-1)!.end();
    await vi.advanceTimersByTimeAsync(5_000);
    expect(open()).toHaveLength(1);
    streams.at(-1)!.send(event(8));
    await rest();
    for (const t of [a, b]) expect(t.heard).toEqual(["e7", "e8"]);

    keepInBackground(() => false);
    turn(a, "visible");
    turn(a, "hidden");
    await vi.advanceTimersByTimeAsync(60_000);
    expect(open()).toHaveLength(0);
    await leave(a, b);
  });

  test("a tab that missed something requests everything again", async () => {
    const a = tab();
    const b = tab();
    await rest();
    streams[0]!.send(event(7));
    await rest();
    const channel = new BroadcastChannel("x");
    channel.postMessage({ event: { type: "e" }, position: "20", after: "15" });
    expect(b.heard).toEqual(["e7", "e20"]);
    expect(b.opened).toEqual([false, false]);
    channel.close();
    await leave(a, b);
  });
});
