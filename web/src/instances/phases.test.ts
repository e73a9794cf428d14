import { describe, expect, it } from "vitest";
import { elapsed, estimate, experience, isBooting, phases, statusWords, type BootTimes } from "./phases";

const times: BootTimes = {
  samples: 40,
  phases: [
    { phase: "allocating", p50_ms: 100, p95_ms: 200 },
    { phase: "booting", p50_ms: 2_000, p95_ms: 4_000 },
    { phase: "desktop", p50_ms: 30_000, p95_ms: 50_000 },
    { phase: "agent", p50_ms: 35_000, p95_ms: 60_000 },
  ],
  total: { p50_ms: 40_000, p95_ms: 70_000 },
};

describe("estimate", () => {
  it("never runs backwards and never arrives early", () => {
    for (const t of [times, undefined, { samples: 0, phases: [] }]) {
      let last = -1;
      for (const { phase } of phases) {
        if (phase === "ready") continue;
        for (const ms of [0, 10, 500, 5_000, 60_000, 10_000_000]) {
          const { fraction } = estimate(t, phase, 1_000, 1_000 + ms);
          expect(fraction, `${phase} after ${ms}`).toBeGreaterThanOrEqual(last - 1e-9);
          expect(fraction).toBeLessThan(1);
          last = fraction;
        }
      }
    }
    expect(estimate(times, "ready", 0, 0).fraction).toBe(1);
  });

  it("follows the median", () => {
    const e = estimate(times, "booting", 0, 14_000);
    expect(e.left).toBe(24_000);
    expect(e.late).toBe(false);
    expect(estimate(times, "booting", 0, 69_000).late).toBe(true);
  });

  it("has no place for a phase that other boots skipped", () => {
    const e = estimate(times, "installing", 0, 0);
    expect(e.fraction).toBe(0.75);
    expect(e.left).toBe(10_000);
  });

  it("is not misled by a clock that is behind the server's", () => {
    expect(estimate(times, "booting", 10_000, 0).fraction).toBeCloseTo(0.05);
  });
});

it("promises no end before five boots were measured, and says how long it has taken", () => {
  expect(estimate({ ...times, samples: 5 }, "booting", 0, 14_000).left).toBe(24_000);
  const few = estimate({ ...times, samples: 4 }, "booting", 0, 14_000);
  expect(few.left).toBeUndefined();
  expect(few.late).toBe(false);
  expect(estimate({ ...times, samples: 4 }, "booting", 0, 1_000_000).late).toBe(false);
  const at = { created_at: "2026-11-28T10:00:00Z", phase_since: "2026-11-28T10:00:30Z" };
  const now = Date.parse("2026-11-28T10:00:42Z");
  expect(elapsed({ ...at, status: "launching" }, now)).toBe("42 s so far");
  expect(elapsed({ ...at, status: "starting" }, now)).toBe("12 s in this step");
});

const said = (samples: number) => experience({ ...times, samples });

it("claims only what is known", () => {
  expect(said(20)).toBe("19 of 20 desktops here are ready within 70 s.");
  expect(said(19)).toBe("Half of the 19 desktops that started here before were ready within 40 s.");
  expect(said(5)).toBe("Half of the 5 desktops that started here before were ready within 40 s.");
  expect(said(4)).toBeUndefined();
  expect(said(0)).toBeUndefined();
  expect(experience(undefined)).toBeUndefined();
});

it("distinguishes a machine that stopped answering from one that boots", () => {
  const silent = { status: "running", phase: "ready", ready: false } as const;
  expect(statusWords(silent).text).toBe("Not responding");
  expect(isBooting(silent)).toBe(false);
  expect(statusWords({ ...silent, phase: "agent" }).text).toBe("Starting up");
  expect(isBooting({ ...silent, phase: "agent" })).toBe(true);
});
