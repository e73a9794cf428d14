import { expect, test } from "vitest";
import type { Instance } from "@/api/client";
import { timeLeft } from "@/ui/time";
import { keyOf, newWaiting, summary, waitingIn, words, type Waiting } from "./waiting";

const desktop = (id: string, state: Partial<NonNullable<Instance["agent_state"]>> | null | undefined) =>
  ({
    id,
    name: `desktop ${id}`,
    agent_state: state && { approvals: 0, questions: 0, until: null, held: false, ...state },
  }) as Instance;

test("the desktops that wait are in the order of their deadlines; others are left out", () => {
  const found = waitingIn([
    desktop("older server", undefined),
    desktop("nothing known", null),
    desktop("only held", { held: true }),
    desktop("open end", { questions: 1 }),
    desktop("later", { approvals: 2, questions: 1, until: "2026-11-27T12:30:00Z" }),
    desktop("soon", { approvals: 1, until: "2026-11-27T12:10:00Z" }),
    desktop("no time", { approvals: 1, until: "tomorrow" }),
  ]);
  expect(found.map((w) => [w.id, w.count, w.until && new Date(w.until).toISOString()])).toEqual([
    ["soon", 1, "2026-11-27T12:10:00.000Z"],
    ["later", 3, "2026-11-27T12:30:00.000Z"],
    ["no time", 1, undefined],
    ["open end", 1, undefined],
  ]);
});

const stops = (id: string, at: string) =>
  ({
    ...desktop(id, null),
    status: "running",
    idle: { warning: { stop_at: at, cause: "idle", why: "No input since 12:00." } },
  }) as Instance;

test("a desktop that stops soon waits for its user, also one that waits for an answer", () => {
  const both = {
    ...stops("both", "2026-11-27T12:20:00Z"),
    agent_state: { approvals: 1, questions: 0, until: "2026-11-27T12:30:00Z" },
  };
  const found = waitingIn([both as Instance, stops("soon", "2026-11-27T12:10:00Z")]);
  expect(found.map(keyOf)).toEqual(["soon.stop", "both.stop", "both"]);
  expect(found.map(words)).toEqual([
    "desktop soon stops soon",
    "desktop both stops soon",
    "The agent on desktop both needs your answer",
  ]);
  expect(summary(found)).toBe("You are needed");
  expect(summary(found.slice(0, 2))).toBe("Desktops stop soon");
  expect(summary(found.slice(0, 1))).toBe("A desktop stops soon");
  expect(summary(found.slice(2))).toBe("Your answer is needed");
  expect(summary([{ ...found[2]!, count: 2 }])).toBe("Your answers are needed");
});

const stop = (until: number): Waiting => ({ ...w(1, until), stops: true });

test("a warning is new once, although its time changes, and again after it was withdrawn", () => {
  const fresh = newWaiting();
  const steps: [string, Waiting[], number][] = [
    ["a warning", [stop(100)], 1],
    ["a job moved it", [stop(90)], 0],
    ["and the agent asks", [stop(90), w(1, 95)], 1],
    ["withdrawn", [w(1, 95)], 0],
    ["warned again", [stop(200), w(1, 95)], 1],
  ];
  for (const [step, now, want] of steps) expect(fresh(now).length, step).toBe(want);
});

const w = (count: number, until?: number): Waiting => ({ id: "i", name: "Research", count, until });

test("what waits is new once, also when the connection to its desktop broke meanwhile", () => {
  const fresh = newWaiting();
  const steps: [string, Waiting[], number][] = [
    ["nothing", [], 0],
    ["the first", [w(1, 100)], 1],
    ["the same", [w(1, 100)], 0],
    ["a second", [w(2, 100)], 1],
    ["the first is answered", [w(1, 200)], 0],
    ["the connection broke", [], 0],
    ["and is back", [w(1, 200)], 0],
    ["answered", [], 0],
    ["another", [w(1, 300)], 1],
    ["answered", [], 0],
    ["one without a deadline", [w(1)], 1],
    ["answered", [], 0],
    ["another without a deadline", [w(1)], 1],
    ["another desktop", [w(1), { ...w(1), id: "j" }], 1],
  ];
  for (const [step, now, want] of steps) expect(fresh(now).length, step).toBe(want);
});

test.each([
  [-1, undefined],
  [999, undefined],
  [1_000, "1 s left"],
  [59_999, "59 s left"],
  [60_000, "1 min left"],
  [299_999, "4 min left"],
  [3_600_000 + 65_000, "1 h 1 min left"],
])("%i ms before a deadline are %s", (ms, want) => {
  expect(timeLeft(ms)).toBe(want);
});
