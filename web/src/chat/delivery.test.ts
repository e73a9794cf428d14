import { describe, expect, test, vi } from "vitest";
import { again, begin, connected, gateway, settle, setUp, states, storage } from "./stage";
import { pageOf } from "./testing";

vi.mock("@/api/bridge", () => ({ openBridge: () => Promise.reject(new Error("not in tests")) }));

setUp();

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

const asked = (method: string) => gateway.asked.flatMap((a) => (a.method === method ? [a.params.sessionKey] : []));

describe("a gateway that restarted knows no keys", () => {
  const two = "agent:main:two";
  /** Sends a message in the second session, which gets no answer; then opens the first one. */
  const unanswered = async () => {
    const c = await connected();
    c.open(two);
    await settle(10);
    gateway.silent.add("chat.send");
    c.send("only once");
    await settle(10);
    c.open("agent:main:main");
    await settle(10);
    gateway.silent.clear();
    return c;
  };

  test("a message in a session that is not open does not run again: its own history is asked first", async () => {
    const c = await unanswered();
    gateway.restart();
    await again(1_000);
    expect(gateway.taken.map((t) => t.text)).toEqual(["only once"]);
    expect(asked("chat.history").slice(-2)).toEqual(["agent:main:main", two]);
    expect(c.outbox.list(two)).toEqual([]);
  });

  test("a message far up in the history does not run again either", async () => {
    const c = await unanswered();
    const key = gateway.taken[0]!.key;
    gateway.answers["chat.history"] = ({ offset }) =>
      Number(offset ?? 0) < 300
        ? pageOf(400, Number(offset ?? 0))
        : { messages: [{ role: "user", content: "only once", idempotencyKey: `${key}:user` }] };
    gateway.restart();
    await again(1_000);
    expect(gateway.taken).toHaveLength(1);
    expect(c.outbox.list(two)).toEqual([]);
  });

  test("beyond a limited number of pages the user decides", async () => {
    const c = await unanswered();
    gateway.answers["chat.history"] = ({ offset }) => pageOf(1e6, Number(offset ?? 0));
    gateway.restart();
    await again(1_000);
    expect(gateway.taken).toHaveLength(1);
    expect(c.outbox.list(two)).toMatchObject([{ state: "unconfirmed" }]);
    expect(asked("chat.history").filter((s) => s === two).length).toBeLessThan(20);
  });

  test("while the history cannot be read the message waits, and Retry sends it afterwards", async () => {
    const c = await unanswered();
    gateway.refuse["chat.history"] = { code: "INTERNAL", message: "no" };
    gateway.restart();
    await again(1_000);
    expect(gateway.count("chat.send")).toBe(1);
    c.open(two);
    await settle(10);
    expect(c.snapshot().chat.outbox).toMatchObject([{ state: "unchecked" }]);
    gateway.refuse["chat.history"] = undefined;
    gateway.answers["chat.history"] = () => ({ messages: [] }); // it was lost indeed
    c.resend(c.snapshot().chat.outbox[0]!.key);
    await settle(10);
    expect(gateway.count("chat.send")).toBe(2);
    expect(states(c)).toEqual([]);
  });

  test("two tabs ask the history, too", async () => {
    const c = await unanswered();
    const other = begin();
    await settle();
    gateway.hello();
    await settle(10);
    for (const s of gateway.sockets) s.cut(1012);
    gateway.restart();
    await settle(2_000);
    for (const s of gateway.sockets) s.hear({ type: "res", id: "c", ok: true, payload: { type: "hello-ok" } });
    await settle(1_000);
    expect(gateway.taken).toHaveLength(1);
    expect(c.outbox.list(two)).toEqual([]);
    expect(other.outbox.list(two)).toEqual([]);
  });

  test("a key with another text is a conflict, and Retry uses a new key", async () => {
    const c = await connected();
    c.send("one");
    await settle(10);
    const { key } = gateway.taken[0]!;
    c.outbox.add("agent:main:main", "two", Date.now(), key);
    gateway.answers["chat.history"] = () => ({ messages: [] });
    c.resend(key);
    await settle(10);
    const [item] = c.snapshot().chat.outbox;
    expect(item).toMatchObject({ state: "refused", reason: expect.stringMatching(/^The agent has another message/) });
    c.resend(key);
    await settle(10);
    expect(gateway.taken.map((t) => t.text)).toEqual(["one", "two"]);
    expect(gateway.taken[1]!.key).not.toBe(key);
    expect(states(c)).toEqual([]);
  });
});
