import { expect, test } from "vitest";
import { costAt, monthWords, runWords, seenAt, type Cost } from "./cost";

const cost: Cost = {
  hourly_micros: 83_200,
  disk_monthly_micros: 3_200_000,
  run_seconds: 12_000,
  run_micros: 277_333,
  month_micros: 4_120_000,
  priced: true,
};
const seen = Date.UTC(2026, 10, 28, 9);

test("the time since the answer is added at the desktop's price while it runs", () => {
  expect(costAt({ status: "running", cost }, seen, seen + 3_600_999)).toMatchObject({
    run_seconds: 15_600,
    run_micros: 277_333 + 83_200,
    month_micros: 4_120_000 + 83_200,
  });
  expect(costAt({ status: "running", cost }, seen, seen - 5_000), "a clock that was put back").toEqual(cost);
  for (const status of ["launching", "stopping", "stopped", "terminated"] as const)
    expect(costAt({ status, cost }, seen, seen + 3_600_000), status).toEqual(cost);
  const free = { ...cost, hourly_micros: null };
  expect(costAt({ status: "running", cost: free }, seen, seen + 3_600_000)).toMatchObject({
    run_seconds: 15_600,
    run_micros: 277_333,
  });
});

test("a new month starts at nothing", () => {
  const late = Date.UTC(2026, 10, 30, 23);
  const at = Date.UTC(2026, 11, 1, 2);
  expect(costAt({ status: "running", cost }, late, at)).toMatchObject({
    run_micros: 277_333 + 3 * 83_200,
    month_micros: 2 * 83_200,
  });
  expect(
    costAt({ status: "running", cost: { ...cost, month_micros: null } }, seen, seen + 1_000).month_micros,
  ).toBeNull();
});

test("an answer keeps the time at which it was first drawn", () => {
  const first = seenAt(cost);
  expect(seenAt(cost)).toBe(first);
  expect(seenAt({ ...cost })).toBeGreaterThanOrEqual(first);
});

test.each<[Partial<Cost>, string | undefined, string | undefined]>([
  [{}, "Running 3 h 20 min, $0.27", "$4.12 this month"],
  [
    { run_seconds: 40, run_micros: 924, month_micros: 924 },
    "Running 40 s, less than $0.01",
    "less than $0.01 this month",
  ],
  [{ hourly_micros: 0, run_micros: 0, month_micros: 0 }, "Running 3 h 20 min", undefined],
  [{ month_micros: null }, "Running 3 h 20 min, $0.27", undefined],
  [{ hourly_micros: null, run_micros: 0, priced: false }, "Running 3 h 20 min, not priced", "$4.12 this month"],
])("the words of %j", (more, run, month) => {
  expect(runWords({ status: "running", cost: { ...cost, ...more } })).toBe(run);
  expect(monthWords({ cost: { ...cost, ...more } })).toBe(month);
});

test("a desktop that does not run, and an older server, say nothing of a run", () => {
  expect(runWords({ status: "stopped", cost })).toBeUndefined();
  expect(runWords({ status: "running", cost: undefined as never })).toBeUndefined();
});
