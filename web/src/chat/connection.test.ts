import { describe, expect, test, vi } from "vitest";
import { again, begin, connected, gateway, page, settle, setUp } from "./stage";
import { pageOf } from "./testing";

vi.mock("@/api/bridge", () => ({ openBridge: () => Promise.reject(new Error("not in tests")) }));

setUp();

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
