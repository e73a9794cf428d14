// The stage of the connection's tests: a gateway, a page and its storage. A test that uses it replaces "@/api/bridge".
import { afterEach, beforeEach, expect, vi } from "vitest";
import { ChatConnection } from "./connection";
import { FakeGateway, FakeSocket, MemoryStorage } from "./testing";

export let gateway: FakeGateway;
export let storage: MemoryStorage;
export let page: EventTarget & { visibilityState: string };
let locks: Promise<unknown>;
let all: ChatConnection[];

/** setUp gives each test a new gateway and a browser of its own. */
export function setUp() {
  beforeEach(() => {
    vi.useFakeTimers();
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    gateway = new FakeGateway();
    storage = new MemoryStorage();
    all = [];
    locks = Promise.resolve();
    page = Object.assign(new EventTarget(), { visibilityState: "visible" });
    vi.stubGlobal("window", new EventTarget());
    vi.stubGlobal("document", page);
    // One at a time, as Web Locks allow for all tabs of a browser.
    const request = (_: string, f: () => Promise<void>) => (locks = locks.then(f));
    vi.stubGlobal("navigator", { onLine: true, locks: { request } });
    vi.stubGlobal(
      "WebSocket",
      class extends FakeSocket {
        constructor() {
          super(gateway);
        }
      },
    );
  });
  afterEach(() => {
    for (const c of all) c.stop();
    vi.useRealTimers();
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });
}

export const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
export const begin = (
  open = () => Promise.resolve({ url: "wss://x/", protocols: [] as string[] }),
  session?: string,
) => {
  const c = new ChatConnection({ account: "a", instance: "i", open, storage, session });
  all.push(c);
  c.start();
  return c;
};
export const connected = async (session?: string) => {
  const c = begin(undefined, session);
  await settle();
  gateway.hello();
  await settle(10);
  return c;
};
export const again = async (wait: number) => {
  const before = gateway.sockets.length;
  await settle(wait);
  expect(gateway.sockets.length).toBe(before + 1);
  gateway.hello();
  await settle(10);
};
export const states = (c: ChatConnection) => c.snapshot().chat.outbox.map((i) => i.state);
