import { afterEach, beforeEach, expect, test, vi } from "vitest";

const signedFetch = vi.hoisted(() => vi.fn<(path: string, init: RequestInit) => Promise<Response>>());
vi.mock("./client", () => ({ signedFetch }));

import { followEvents } from "./events";

class Page extends EventTarget {
  visibilityState = "visible";
  turn(state: "visible" | "hidden") {
    this.visibilityState = state;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

let page: Page;
let streams: { init: RequestInit; send: (text: string) => void; open: boolean }[];

beforeEach(() => {
  vi.useFakeTimers();
  page = new Page();
  vi.stubGlobal("document", page);
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("removeEventListener", () => undefined);
  streams = [];
  signedFetch.mockImplementation(async (_, init) => {
    const s = { init, send: (_text: string) => undefined as void, open: true };
    streams.push(s);
    const body = new ReadableStream<Uint8Array>({
      start(c) {
        s.send = (text) => c.enqueue(new TextEncoder().encode(text));
        init.signal?.addEventListener("abort", () => {
          s.open = false;
          c.error(init.signal?.reason);
        });
      },
    });
    return new Response(body);
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("a page that nobody looks at gives its connection back, and goes on where it was when it is seen", async () => {
  const states: string[] = [];
  const opened: boolean[] = [];
  const types: string[] = [];
  const control = new AbortController();
  const done = followEvents({ onEvent: (e) => types.push(e.type), onOpen: (resumed) => opened.push(resumed), onState: (s) => states.push(s) }, control.signal);
  await vi.advanceTimersByTimeAsync(10);
  streams[0]!.send('id: 7\nevent: a\ndata: {"type":"a"}\n\n');
  await vi.advanceTimersByTimeAsync(10);
  expect(types).toEqual(["a"]);

  page.turn("hidden");
  await vi.advanceTimersByTimeAsync(29_000);
  page.turn("visible"); // only a glance elsewhere
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

test("while there is no way to the server, that is said once and not with each try", async () => {
  signedFetch.mockRejectedValue(new Error("offline"));
  const states: string[] = [];
  const control = new AbortController();
  const done = followEvents({ onEvent: () => undefined, onOpen: () => undefined, onState: (s) => states.push(s) }, control.signal);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(signedFetch.mock.calls.length).toBeGreaterThan(3);
  expect(new Set(states.slice(1))).toEqual(new Set(["waiting"]));
  control.abort();
  await done;
});
