import { describe, expect, test } from "vitest";
import { choices, durationOf, fieldOf, fieldsOf, localTime, own, policyOf, secondsOf, unitsFor } from "./form";
import { outlook, policyWords, stoppedWords, inUseWords, type Idle, type Policy } from "./outlook";
import { clock, long } from "./times";
import { countdown, warningOf } from "./warning";

const policy: Policy = { after_s: 3_600, warn_s: 300, ceiling_s: 86_400, jobs: "wake" };
const now = new Date(2026, 10, 28, 17, 40).getTime(); // local, as the sentences are
const iso = (day: number, hour: number, minute: number) => new Date(2026, 10, day, hour, minute).toISOString();
const time = (day: number, hour: number, minute: number) => clock(new Date(2026, 10, day, hour, minute).getTime(), now);

const idle: Idle = {
  policy,
  own_policy: false,
  state: "in_use",
  last_used_at: iso(28, 17, 32),
  last_agent_at: null,
  warn_at: iso(28, 18, 27),
  stop_at: iso(28, 18, 32),
  cause: "idle",
  warning: null,
  extended_until: null,
  next_job_at: null,
  wake_at: null,
  stopped_why: null,
};

test("a time names its day if that is not today", () => {
  expect(time(28, 18, 32)).not.toMatch(/tomorrow|on/);
  expect(time(29, 0, 5)).toMatch(/ tomorrow$/);
  expect(time(27, 23, 59)).toMatch(/ yesterday$/);
  expect(time(28 + 3, 9, 0)).toMatch(/ on \p{L}+$/u);
  expect(time(28 + 30, 9, 0)).toMatch(/ on .*28/);
});

test.each([
  [1, "1 second"],
  [45, "45 seconds"],
  [60, "1 minute"],
  [90, "90 seconds"],
  [5_400, "90 minutes"],
  [3_600, "1 hour"],
  [86_400, "1 day"],
  [172_800, "2 days"],
  [90_000, "25 hours"],
])("%i s are %s", (s, want) => {
  expect(long(s)).toBe(want);
});

describe("the outlook", () => {
  const cases: [string, Partial<Idle>, string][] = [
    ["in use", {}, `Would stop at ${time(28, 18, 32)} if not used.`],
    [
      "a job after the stop wakes it",
      { next_job_at: iso(28, 19, 0) },
      `Would stop at ${time(28, 18, 32)} if not used; the agent's next job is at ${time(28, 19, 0)} and starts it again.`,
    ],
    [
      "a job after the stop waits",
      { next_job_at: iso(29, 8, 0), policy: { ...policy, jobs: "sleep" } },
      `Would stop at ${time(28, 18, 32)} if not used; the agent's next job, at ${time(29, 8, 0)}, waits until you start the desktop.`,
    ],
    [
      "a job before the stop",
      { next_job_at: iso(28, 18, 0) },
      `Would stop at ${time(28, 18, 32)} if not used; the agent's next job is before that, at ${time(28, 18, 0)}, and counts as use.`,
    ],
    ["a job that is over", { next_job_at: iso(28, 17, 0) }, `Would stop at ${time(28, 18, 32)} if not used.`],
    [
      "the ceiling",
      { cause: "ceiling" },
      `Would stop at ${time(28, 18, 32)} if you do not use it, even if the agent works: 1 day without you is the limit.`,
    ],
    [
      "extended",
      { extended_until: iso(28, 18, 30) },
      `Kept running until ${time(28, 18, 30)}. Would stop at ${time(28, 18, 32)} if not used.`,
    ],
    [
      "kept by the policy, longer than extended",
      { extended_until: iso(28, 18, 30), policy: { ...policy, keep_until: iso(29, 9, 0) }, stop_at: null },
      `Kept running until ${time(29, 9, 0)}.`,
    ],
    ["an extension that is over", { extended_until: iso(28, 17, 0), stop_at: null }, "No stop is due."],
    [
      "unknown",
      { state: "unknown", stop_at: null },
      "The desktop does not report its use at present. That does not count as idle.",
    ],
    ["off", { state: "off" }, "Does not stop by itself."],
    ["stopped", { state: "not_running" }, ""],
    [
      "stopped, and a job waits",
      { state: "not_running", next_job_at: iso(28, 19, 0) },
      `The agent's next job, at ${time(28, 19, 0)}, waits until you start the desktop.`,
    ],
    ["stopped, and a job is over", { state: "not_running", next_job_at: iso(28, 17, 0) }, ""],
    [
      "stopped until a job",
      { state: "not_running", wake_at: iso(28, 18, 58) },
      `Starts again at ${time(28, 18, 58)} for the agent's next job.`,
    ],
  ];
  test.each(cases)("%s", (_, more, want) => {
    expect(outlook({ ...idle, ...more }, now)).toBe(want);
  });

  test("says whether the desktop is in use", () => {
    expect(inUseWords(idle, now)).toBe("In use.");
    expect(inUseWords({ ...idle, state: "idle", last_agent_at: iso(28, 17, 35) }, now)).toBe(
      `Idle since ${time(28, 17, 35)}.`,
    );
    expect(inUseWords({ ...idle, state: "idle", last_used_at: null }, now)).toBe("Idle.");
    expect(inUseWords({ ...idle, state: "unknown" }, now)).toBeUndefined();
  });
});

test("a stop by itself has its reason", () => {
  const stopped = { ...idle, state: "not_running" as const, stopped_why: "No input since 18:02." };
  expect(stoppedWords({ status: "stopped", idle: stopped })).toBe("Stopped by itself. No input since 18:02.");
  expect(stoppedWords({ status: "running", idle: stopped })).toBeUndefined();
  expect(stoppedWords({ status: "stopped", idle })).toBeUndefined();
  expect(stoppedWords({ status: "stopped", idle: null })).toBeUndefined();
});

test("a policy in words", () => {
  expect(policyWords(policy)).toBe(
    "Stops after 1 hour without any use, and after 1 day without you, even if the agent works. You are warned 5 minutes before.",
  );
  expect(policyWords({ ...policy, after_s: 0, warn_s: 0 })).toBe(
    "Stops after 1 day without you, even if the agent works. There is no warning.",
  );
  expect(policyWords({ ...policy, ceiling_s: 0 })).toBe(
    "Stops after 1 hour without any use. You are warned 5 minutes before.",
  );
  expect(policyWords({ ...policy, after_s: 0, ceiling_s: 0 })).toBe("Never stops by itself.");
});

describe("the form", () => {
  test.each([
    [0, { choice: "0", number: "", unit: "minutes" }],
    [3_600, { choice: "3600", number: "1", unit: "hours" }],
    [5_400, { choice: own, number: "90", unit: "minutes" }],
    [8, { choice: own, number: "8", unit: "seconds" }],
    [172_800, { choice: own, number: "2", unit: "days" }],
  ])("%i s", (seconds, want) => {
    expect(durationOf(seconds, choices.after)).toEqual(want);
    expect(secondsOf(want)).toBe(seconds);
  });

  test.each(["", "0", "-1", "1.5", "1e3", "x", "99999999"])("%j of a unit is no duration", (number) => {
    expect(secondsOf({ choice: own, number, unit: "minutes" })).toBeUndefined();
  });

  test("offers seconds only where such limits are allowed", () => {
    expect(unitsFor(300)).toEqual(["minutes", "hours", "days"]);
    expect(unitsFor(2)).toContain("seconds");
  });

  test("keeps a policy as it is", () => {
    for (const p of [
      policy,
      { ...policy, after_s: 7, warn_s: 3, ceiling_s: 0, jobs: "sleep" as const },
      { ...policy, keep_until: new Date(2026, 11, 1, 9, 30).toISOString() },
    ])
      expect(policyOf(fieldsOf(p, now))).toEqual({ policy: p });
    expect(fieldsOf({ ...policy, keep_until: iso(27, 9, 0) }, now).keep).toBe("");
    expect(localTime(new Date(2026, 0, 2, 3, 4).getTime())).toBe("2026-01-02T03:04");
  });

  test("says which fields are wrong", () => {
    const fields = fieldsOf(policy, now);
    const typed = { choice: own, number: "soon", unit: "hours" };
    expect(policyOf({ ...fields, after: typed, keep: "tomorrow" })).toEqual({
      wrong: { after: "Enter a whole number of at least 1.", keep: "Enter a date and a time." },
    });
    expect(fieldOf("after_s")).toBe("after");
    expect(fieldOf("policy.keep_until")).toBe("keep");
    expect(fieldOf("jobs")).toBeUndefined();
    expect(fieldOf(undefined)).toBeUndefined();
  });
});

describe("the warning", () => {
  const warning = { stop_at: iso(28, 18, 32), cause: "idle" as const, why: "No input since 17:32." };

  test("is shown while the desktop runs", () => {
    const warned = { ...idle, warning };
    expect(warningOf({ status: "running", idle: warned })).toEqual({
      until: Date.parse(warning.stop_at),
      cause: "idle",
      why: "No input since 17:32.",
    });
    expect(warningOf({ status: "stopping", idle: warned })).toBeUndefined();
    expect(warningOf({ status: "running", idle })).toBeUndefined();
    expect(
      warningOf({ status: "running", idle: { ...idle, warning: { ...warning, stop_at: "soon" } } }),
    ).toBeUndefined();
    expect(warningOf({ status: "running", idle: undefined as never }), "an older server").toBeUndefined();
  });

  test.each([
    [3_700_000, "in 1 h 1 min"],
    [3_600_000, "in 1 h"],
    [299_001, "in 5 min"],
    [245_000, "in 4 min 5 s"],
    [60_000, "in 1 min"],
    [59_000, "in 59 s"],
    [1, "in 1 s"],
    [0, "now"],
    [-5_000, "now"],
  ])("%i ms before the stop: %s", (ms, want) => {
    expect(countdown(ms)).toBe(want);
  });
});
