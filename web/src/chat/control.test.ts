import { describe, expect, test } from "vitest";
import { control, holdFor, stops, works, type Control } from "./control";
import { reduce } from "./reducer";
import { empty, type ChatState } from "./state";

const now = 1_000_000;

describe("control", () => {
  test.each([
    ["no object", null],
    ["no holder", { since: 1 }],
    ["an unknown holder", { holder: "machine" }],
    ["a holder of another type", { holder: ["user"] }],
  ])("%s changes nothing", (_, payload) => {
    const before: Control = { holder: "agent", since: undefined, until: now, ahead: 0, leased: false };
    expect(control(payload, before, now)).toBe(before);
    expect(control(payload, undefined, now)).toBeUndefined();
  });

  test.each([
    ["ahead", 3_600_000],
    ["behind", -3_600_000],
  ])("the end of a hold is shown by this browser's clock if the machine's is %s", (_, ms) => {
    const free = control({ holder: "agent" }, undefined, now);
    const machine = now + ms; // which shows when the user takes control
    const held = control({ holder: "user", since: machine, until: machine + holdFor, leased: true }, free, now);
    expect(held).toMatchObject({ holder: "user", until: now + holdFor, leased: true });
    // A later use moves the end, but not the time of taking.
    const later = { holder: "user", since: machine, until: machine + 60_000 + holdFor };
    expect(control(later, held, now + 60_000)).toMatchObject({ until: now + 60_000 + holdFor, leased: false });
  });

  test.each([
    ["in the past", now - 5, now],
    ["missing", undefined, now],
    ["too far away", now + 1e12, now + holdFor],
  ])("an end that is %s is bounded", (_, until, want) => {
    expect(control({ holder: "user", until }, undefined, now)?.until).toBe(want);
  });
});

const event = (s: ChatState, name: string, payload: object, at = now) =>
  reduce(s, { type: "event", event: name, payload: payload as Record<string, unknown>, now: at });
const item = (phase: string, call: string, more: object = {}) => ({
  runId: "r",
  sessionKey: "agent:main:other",
  stream: "item",
  data: { kind: "tool", name: "computer", phase, toolCallId: call, ...more },
});
const runs = (s: ChatState) => s.acting.map((a) => a.run);

describe("the agent uses the desktop", () => {
  test("from a tool's start, in any session, until a pause after its end", () => {
    let s = event(empty, "agent", item("start", "a"));
    expect(runs(s)).toEqual(["r"]);
    s = event(s, "agent", item("start", "b"));
    s = event(s, "agent", item("end", "a"), now + 1_000);
    expect(s.acting[0]?.calls).toEqual(["b"]);
    s = event(s, "agent", item("end", "b"), now + 2_000);
    expect(s.acting[0]?.until).toBe(now + 17_000);
    s = reduce(s, { type: "expired", now: now + 16_999 });
    expect(runs(s)).toEqual(["r"]);
    expect(runs(reduce(s, { type: "expired", now: now + 17_000 }))).toEqual([]);
  });

  test.each<[string, (s: ChatState) => ChatState]>([
    ["the run's end", (s) => event(s, "agent", { runId: "r", stream: "lifecycle", data: { phase: "end" } })],
    ["the run's failure", (s) => event(s, "agent", { runId: "r", stream: "lifecycle", data: { phase: "error" } })],
    ["the answer", (s) => event(s, "chat", { runId: "r", sessionKey: "agent:main:main", state: "final" })],
    ["a stop", (s) => event(s, "chat", { runId: "r", sessionKey: "agent:main:other", state: "aborted" })],
    ["a new connection", (s) => reduce(s, { type: "connected", main: "agent:main:main" })],
    ["a long silence", (s) => reduce(s, { type: "expired", now: now + 90_000 })],
  ])("%s ends it", (_, end) => {
    expect(runs(end(event(empty, "agent", item("start", "a"))))).toEqual([]);
  });

  test.each([
    ["another tool", item("start", "a", { name: "exec" })],
    ["no tool", item("start", "a", { kind: "status" })],
    ["no run", { ...item("start", "a"), runId: 7 }],
    ["the start of a run", { runId: "r", stream: "lifecycle", data: { phase: "start" } }],
  ])("%s is no use of it", (_, payload) => {
    expect(event(empty, "agent", payload).acting).toBe(empty.acting);
  });

  test("the browser counts, and a hostile machine fills no memory", () => {
    let s = event(empty, "agent", item("start", "a", { name: "browser" }));
    expect(runs(s)).toEqual(["r"]);
    for (let i = 0; i < 100; i++) s = event(s, "agent", { ...item("start", `c${i}`), runId: `r${i % 20}` });
    for (let i = 0; i < 100; i++) s = event(s, "agent", { ...item("start", `c${i}`), runId: "r19" });
    expect(s.acting).toHaveLength(8);
    expect(s.acting.at(-1)?.calls).toHaveLength(16);
  });
});

test("a new connection forgets who held control until the machine reports it", () => {
  const s = event(empty, "cloudbot.control", { holder: "user", since: 1, until: 2 });
  expect(s.control?.holder).toBe("user");
  expect(reduce(s, { type: "connected", main: "m" }).control).toBeUndefined();
});

const copiedAt = (at: number, s = empty) =>
  reduce(s, { type: "event", event: "cloudbot.clipboard", payload: { bytes: 3_000_000 }, now: at });

test("a copy that is too long is reported, at most every five seconds", () => {
  const s = copiedAt(10_000);
  expect(s.copied).toEqual({ bytes: 3_000_000, at: 10_000 });
  expect(copiedAt(14_999, s)).toBe(s);
  expect(copiedAt(15_000, s).copied?.at).toBe(15_000);
});

test("a stop names each run that is known, else its session", () => {
  const run = { calls: [], until: 0 };
  const s = {
    current: "one",
    runs: [{ id: "a" }],
    acting: [
      { ...run, run: "b", session: "two" },
      { ...run, run: "a", session: "" },
    ],
    busy: ["two", "three"],
  };
  expect(works(s)).toBe(true);
  expect(stops(s)).toEqual([
    { sessionKey: "one", runId: "a" },
    { sessionKey: "two", runId: "b" },
    { sessionKey: "three" },
  ]);
  expect(works({ ...s, runs: [], acting: [], busy: [] })).toBe(false);
});
