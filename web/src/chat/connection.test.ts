import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ChatConnection } from "./connection";
import { FakeGateway, FakeSocket, MemoryStorage, pageOf } from "./testing";

vi.mock("@/api/bridge", () => ({ openBridge: () => Promise.reject(new Error("not in tests")) }));

let gateway: FakeGateway;
let storage: MemoryStorage;
let page: EventTarget & { visibilityState: string };
let locks: Promise<unknown>;
let all: ChatConnection[];

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

const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);
const begin = (open = () => Promise.resolve({ url: "wss://x/", protocols: [] as string[] }), session?: string) => {
  const c = new ChatConnection({ account: "a", instance: "i", open, storage, session });
  all.push(c);
  c.start();
  return c;
};
const connected = async (session?: string) => {
  const c = begin(undefined, session);
  await settle();
  gateway.hello();
  await settle(10);
  return c;
};
const again = async (wait: number) => {
  const before = gateway.sockets.length;
  await settle(wait);
  expect(gateway.sockets.length).toBe(before + 1);
  gateway.hello();
  await settle(10);
};
const states = (c: ChatConnection) => c.snapshot().chat.outbox.map((i) => i.state);

describe("a chat's connection", () => {
  test("subscribes to its session, and loads the history and open requests", async () => {
    const c = await connected();
    expect(c.snapshot().link.at).toBe("open");
    expect(c.snapshot().chat.history).toBe("ready");
    for (const m of [
      "sessions.subscribe",
      "sessions.messages.subscribe",
      "chat.history",
      "sessions.list",
      "exec.approval.list",
      "question.list",
    ])
      expect([m, gateway.count(m)]).toEqual([m, 1]);
  });

  test("starts with the session that was open, unless it no longer exists", async () => {
    gateway.answers["sessions.list"] = () => ({ sessions: [{ key: "agent:main:two" }] });
    expect((await connected("agent:main:two")).snapshot().chat.current).toBe("agent:main:two");
    expect((await connected("agent:main:deleted")).snapshot().chat.current).toBe("agent:main:main");
    expect(gateway.asked.filter((a) => a.method === "chat.history").map((a) => a.params.sessionKey)).toEqual([
      "agent:main:two",
      "agent:main:deleted",
      "agent:main:main",
    ]);
  });

  test("is not open before the machine's hello", async () => {
    const c = begin();
    await settle(5_000);
    expect(c.snapshot().link.at).toBe("connecting");
    expect(gateway.asked).toEqual([]);
  });

  test("gets a new ticket each time, and a late ticket opens nothing", async () => {
    const tickets: ((a: { url: string; protocols: string[] }) => void)[] = [];
    begin(() => new Promise((resolve) => tickets.push(resolve)));
    await settle(25_000); // the first takes too long
    await settle(1_000);
    expect(tickets).toHaveLength(2);
    tickets[0]!({ url: "wss://late/", protocols: [] });
    await settle();
    expect(gateway.sockets).toHaveLength(0);
    tickets[1]!({ url: "wss://x/", protocols: [] });
    await settle();
    expect(gateway.sockets).toHaveLength(1);
  });

  test("after a break it subscribes again and reloads the history, without duplicates", async () => {
    const c = await connected();
    c.send("hello");
    await settle(10);
    gateway.event("chat", {
      runId: gateway.taken[0]!.key,
      sessionKey: "agent:main:main",
      seq: 1,
      state: "delta",
      deltaText: "Good ",
    });
    await settle(5_000);
    gateway.answers["chat.history"] = () => ({
      messages: gateway.taken.map((t) => ({ role: "user", content: t.text, idempotencyKey: `${t.key}:user` })),
      inFlightRun: { runId: gateway.taken[0]!.key, text: "Good morning" },
    });
    gateway.socket.cut(1006);
    await again(500);
    expect(gateway.count("sessions.messages.subscribe")).toBe(2);
    expect(c.snapshot().chat.messages.map((m) => m.text)).toEqual(["hello"]);
    expect(c.snapshot().chat.runs.map((r) => r.text)).toEqual(["Good morning"]);
  });

  test("detects a silent machine", async () => {
    const c = await connected();
    await settle(74_000);
    expect(c.snapshot().link.at).toBe("open");
    await settle(2_000);
    expect(c.snapshot().link.at).not.toBe("open");
  });

  test("a hidden page disconnects after half a minute, unless something is under way", async () => {
    const c = await connected();
    gateway.event("chat", { runId: "r", sessionKey: "agent:main:main", seq: 1, state: "delta", deltaText: "x" });
    page.visibilityState = "hidden";
    page.dispatchEvent(new Event("visibilitychange"));
    await settle(31_000);
    expect(c.snapshot().link.at).toBe("open");
    gateway.event("chat", { runId: "r", sessionKey: "agent:main:main", seq: 2, state: "final" });
    await settle(31_000);
    expect(c.snapshot().link).toMatchObject({ at: "waiting", why: "hidden" });
    page.visibilityState = "visible";
    page.dispatchEvent(new Event("visibilitychange"));
    await again(0);
    expect(c.snapshot().link.at).toBe("open");
  });

  test("repeatable requests survive a break; the others are rejected", async () => {
    const c = await connected();
    gateway.silent = new Set(["sessions.patch", "sessions.create"]);
    const renamed = c.rename("agent:main:main", "New name");
    const created = c.create().catch((e: Error) => e.name);
    await settle(5_000);
    gateway.socket.cut(1006);
    expect(await created).toBe("LostError");
    gateway.silent.clear();
    await again(500);
    await renamed;
    expect(gateway.count("sessions.patch")).toBe(2);
    expect(gateway.count("sessions.create")).toBe(1);
  });

  test("loads earlier messages until there are some, although new ones have shifted the pages", async () => {
    const c = await connected();
    let total = 150;
    gateway.answers["chat.history"] = ({ offset }) => pageOf(total, Number(offset ?? 0));
    c.reload();
    await settle(10);
    expect(c.snapshot().chat.messages[0]!.text).toBe("50");
    total = 250; // the next page is the one that exists
    await c.earlier();
    expect(c.snapshot().chat.messages[0]!.text).toBe("0");
    expect(c.snapshot().chat.messages).toHaveLength(150);
  });

  test("a machine that always returns the same page is asked a limited number of times", async () => {
    const c = await connected();
    gateway.answers["chat.history"] = () => ({
      messages: [{ role: "user", content: "x", __openclaw: { id: "x" } }],
      hasMore: true,
      nextOffset: 100,
    });
    c.reload();
    await settle(10);
    await c.earlier();
    expect(gateway.count("chat.history")).toBeLessThan(5);
  });

  test("stays subscribed to a chat that is being answered until its answer ends", async () => {
    const c = await connected();
    gateway.event("chat", { runId: "r", sessionKey: "agent:main:main", seq: 1, state: "delta", deltaText: "x" });
    c.open("agent:main:two");
    await settle(10);
    expect(c.snapshot().chat.busy).toEqual(["agent:main:main"]);
    expect(gateway.count("sessions.messages.unsubscribe")).toBe(0);
    gateway.event("chat", { runId: "r", sessionKey: "agent:main:main", seq: 2, state: "final" });
    await settle(100);
    expect(c.snapshot().chat.busy).toEqual([]);
    expect(gateway.count("sessions.messages.unsubscribe")).toBe(1);
  });

  test("deletes a session by archiving it first", async () => {
    const c = await connected();
    await c.remove("agent:main:two");
    const steps = gateway.asked.filter((a) => /patch|delete/.test(a.method));
    expect(steps).toEqual([
      { method: "sessions.patch", params: { key: "agent:main:two", archived: true } },
      { method: "sessions.delete", params: { key: "agent:main:two", archivedOnly: true } },
    ]);
  });
});

describe("the outbox", () => {
  test("a message written offline is sent once there is a connection", async () => {
    const c = begin();
    c.send("early");
    expect(states(c)).toEqual(["queued"]);
    await settle();
    gateway.hello();
    await settle(10);
    expect(gateway.taken.map((t) => t.text)).toEqual(["early"]);
    expect(c.snapshot().chat.outbox).toEqual([]);
    expect(c.snapshot().chat.messages.map((m) => m.text)).toEqual(["early"]);
    expect(storage.length).toBe(0);
  });

  test("a message accepted without an answer is not sent again: the history proves it", async () => {
    const c = await connected();
    gateway.silent.add("chat.send");
    c.send("hello");
    await settle(10);
    expect(states(c)).toEqual(["sent"]);
    gateway.socket.cut(1006);
    gateway.silent.clear();
    await again(1_000);
    expect(gateway.count("chat.send")).toBe(1);
    expect(states(c)).toEqual([]);
  });

  test("a message that the history lacks is sent again with the same key", async () => {
    const c = await connected();
    gateway.answers["chat.history"] = () => ({ messages: [] });
    gateway.silent.add("chat.send");
    c.send("hello");
    await settle(10);
    gateway.socket.cut(1006);
    gateway.silent.clear();
    await again(1_000);
    expect(gateway.count("chat.send")).toBe(2);
    expect(gateway.taken).toHaveLength(1);
    expect(states(c)).toEqual([]);
    expect(c.snapshot().chat.messages.map((m) => m.text)).toEqual(["hello"]);
  });

  test("after three sends without an answer the user decides; the key stays", async () => {
    const c = await connected();
    gateway.answers["chat.history"] = () => ({ messages: [] });
    gateway.silent.add("chat.send");
    c.send("hello");
    for (let i = 0; i < 20; i++) {
      await settle(10_000);
      gateway.event("tick", {});
    }
    expect(gateway.count("chat.send")).toBe(3);
    expect(states(c)).toEqual(["unconfirmed"]);
    const { key } = c.snapshot().chat.outbox[0]!;
    gateway.silent.clear();
    c.resend(key);
    await settle(10);
    expect(gateway.taken).toEqual([{ key, text: "hello" }]);
    expect(states(c)).toEqual([]);
  });

  test("discarding removes the message", async () => {
    const c = await connected();
    gateway.refuse["chat.send"] = { code: "INVALID_REQUEST", message: "too long for the model" };
    c.send("hello");
    await settle(10);
    expect(c.snapshot().chat.outbox).toMatchObject([{ state: "refused", reason: "too long for the model" }]);
    c.discard(c.snapshot().chat.outbox[0]!.key);
    expect(states(c)).toEqual([]);
    expect(storage.length).toBe(0);
  });

  test("waits while the agent is busy, and keeps the order", async () => {
    const c = await connected();
    gateway.refuse["chat.send"] = { code: "UNAVAILABLE", message: "answering", retryable: true, retryAfterMs: 500 };
    c.send("one");
    c.send("two");
    await settle(3_000);
    expect(c.snapshot().chat.outbox).toMatchObject([
      { state: "queued", tries: 0 },
      { state: "queued", tries: 0 },
    ]);
    gateway.refuse["chat.send"] = undefined;
    await settle(1_000);
    expect(gateway.taken.map((t) => t.text)).toEqual(["one", "two"]);
  });

  test("a reloaded page sends the unsent messages", async () => {
    const first = begin();
    first.send("written before the reload");
    first.stop();
    const second = await connected();
    expect(gateway.taken.map((t) => t.text)).toEqual(["written before the reload"]);
    expect(second.snapshot().chat.outbox).toEqual([]);
  });

  test("only one of two tabs sends", async () => {
    const a = await connected();
    gateway.socket.cut(1006); // both are disconnected while it is written
    const b = begin();
    await settle();
    a.send("once");
    b.retryNow();
    await settle(1_000);
    for (const s of gateway.sockets) {
      s.hear({ type: "res", id: "c", ok: true, payload: { type: "hello-ok" } });
    }
    await settle(100);
    expect(gateway.count("chat.send")).toBe(1);
    expect(gateway.taken).toHaveLength(1);
  });

  test("a stop survives a break, and names its run", async () => {
    const c = await connected();
    gateway.event("chat", { runId: "r", sessionKey: "agent:main:main", seq: 1, state: "delta", deltaText: "x" });
    gateway.silent.add("chat.abort");
    const stopped = c.abort();
    await settle(5_000);
    expect(c.snapshot().chat.runs[0]).toMatchObject({ stopping: true });
    gateway.socket.cut(1006);
    gateway.silent.clear();
    gateway.answers["chat.history"] = () => ({ messages: [], inFlightRun: { runId: "r", text: "x and more" } });
    await again(500);
    await stopped;
    const aborts = gateway.asked.filter((a) => a.method === "chat.abort").map((a) => a.params);
    expect(aborts).toEqual([
      { sessionKey: "agent:main:main", runId: "r" },
      { sessionKey: "agent:main:main", runId: "r" },
    ]);
  });
});
