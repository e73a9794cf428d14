import { describe, expect, test } from "vitest";
import type { Usage } from "@/money/queries";
import { barsOf, reachedFor, reachedWords, stateWords, usedWords, type Limit, type Spent } from "./budgets";
import { colours, costOf, dayAfter, layout, ticksOf, tickWords } from "./chart";
import { monthAfter, monthAt, monthName, recentMonths, dayName } from "./months";

type Desktop = Usage["desktops"][number];
const days = ["2026-11-01", "2026-11-02", "2026-11-03"];
const day = (n: number, micros: number): Desktop["days"][number] => ({
  day: days[n]!,
  run_seconds: 60,
  compute_micros: micros - 3,
  disk_micros: 1,
  address_micros: 1,
  model_micros: 1,
});
const desktop = (id: string, all: Desktop["days"]): Desktop => ({
  id,
  name: `Desktop ${id}`,
  status: "running",
  instance_type: "t3.large",
  total_micros: all.reduce((sum, d) => sum + costOf(d), 0),
  run_seconds: 60 * all.length,
  days: all,
  priced: true,
  seen_seconds: 0,
});

describe("the chart", () => {
  test.each([
    [0, [0, 1]],
    [1, [0, 1]],
    [3, [0, 1, 2, 3]],
    [100, [0, 50, 100]],
    [1_230_000, [0, 500_000, 1_000_000, 1_500_000]],
    [4_000_000, [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000]],
    [4_000_001, [0, 2_000_000, 4_000_000, 6_000_000]],
  ])("has round amounts up to %i", (most, want) => {
    expect(ticksOf(most)).toEqual(want);
  });

  test.each([300, 20_000, 40_000, 1_230_000, 9_000_000_000])("has another label at each amount up to %i", (most) => {
    const labels = ticksOf(most).map(tickWords);
    expect(new Set(labels).size).toBe(labels.length);
    expect(labels.every((l) => l.startsWith("$"))).toBe(true);
  });

  test("has a column a day, the parts of its desktops upon each other, the dearest desktop below", () => {
    const usage = {
      days,
      desktops: [desktop("a", [day(0, 100)]), desktop("b", [day(0, 300), day(2, 400)]), desktop("c", [])],
    };
    const { series, columns, ticks } = layout(usage);
    expect(series.map((s) => [s.id, s.colour])).toEqual([
      ["b", 0],
      ["a", 1],
    ]);
    expect(ticks.at(-1)).toEqual({ micros: 400, bottom: 100 });
    expect(columns.map((c) => [c.day, c.micros])).toEqual([
      ["2026-11-01", 400],
      ["2026-11-02", 0],
      ["2026-11-03", 400],
    ]);
    expect(columns[0]!.parts.map((p) => [p.series.id, p.bottom, p.height])).toEqual([
      ["b", 0, 75],
      ["a", 75, 25],
    ]);
    expect(columns[1]!.parts).toEqual([]);
  });

  test("gives the last colour to all desktops that have none of their own, and loses no cost", () => {
    const desktops = Array.from({ length: 12 }, (_, n) => desktop(`d${n}`, [day(1, 1_000 * (n + 1))]));
    const { series, columns } = layout({ days, desktops });
    expect(series).toHaveLength(colours);
    expect(series.at(-1)).toEqual({ id: "", name: "6 other desktops", colour: colours });
    expect(columns[1]!.parts.reduce((sum, p) => sum + p.micros, 0)).toBe(columns[1]!.micros);
    expect(columns[1]!.micros).toBe(desktops.reduce((sum, d) => sum + d.total_micros, 0));
    expect(columns[1]!.parts.at(-1)!.micros).toBe(1_000 * (1 + 2 + 3 + 4 + 5 + 6));
  });

  test("of a month without costs is empty", () => {
    const { series, columns } = layout({ days, desktops: [] });
    expect(series).toEqual([]);
    expect(columns.every((c) => c.micros === 0 && c.parts.length === 0)).toBe(true);
  });

  test.each([
    ["ArrowRight", 3, 4],
    ["ArrowRight", 29, 29],
    ["ArrowLeft", 0, 0],
    ["PageUp", 3, 10],
    ["PageDown", 3, 0],
    ["Home", 9, 0],
    ["End", 9, 29],
    ["Enter", 9, undefined],
  ])("%s on day %s leads to %s", (key, at, want) => {
    expect(dayAfter(key, at, 30)).toBe(want);
  });
});

test("months are those of UTC", () => {
  expect(monthAt(Date.UTC(2026, 11, 1) - 1)).toBe("2026-11");
  expect(monthAfter("2026-12", 1)).toBe("2027-01");
  expect(monthAfter("2026-01", -1)).toBe("2025-12");
  expect(monthName("2026-11")).toMatch(/2026/);
  expect(dayName("2026-11-28")).toMatch(/28/);
  const now = Date.UTC(2026, 10, 28);
  expect(recentMonths(now, "2026-11")).toHaveLength(13);
  expect(recentMonths(now, "2026-11").at(0)).toBe("2026-11");
  expect(recentMonths(now, "2024-02").at(-1)).toBe("2024-02");
});

const limit = (scope: string, more: Partial<Limit>): Limit => ({
  scope,
  day_micros: null,
  month_micros: null,
  ...more,
});
const spent = (scope: string, more: Partial<Spent>): Spent => ({
  scope,
  day_micros: 0,
  month_micros: 0,
  day_percent: null,
  month_percent: null,
  state: "ok",
  ...more,
});

const bar = (percent: number) => ({ period: "day" as const, spent: 3_200_000, limit: 5_000_000, percent });

describe("budgets", () => {
  test("have a bar for each limit", () => {
    expect(barsOf(undefined, undefined)).toEqual([]);
    expect(barsOf(limit("a", {}), spent("a", { day_micros: 5 }))).toEqual([]);
    expect(
      barsOf(limit("a", { day_micros: 5_000_000 }), spent("a", { day_micros: 3_200_000, day_percent: 64 })),
    ).toEqual([{ period: "day", spent: 3_200_000, limit: 5_000_000, percent: 64 }]);
    expect(barsOf(limit("a", { month_micros: 10 }), undefined)).toEqual([
      { period: "month", spent: 0, limit: 10, percent: 0 },
    ]);
    expect(barsOf(limit("a", { month_micros: 0 }), spent("a", {}))[0]!.percent, "a limit of nothing is reached").toBe(
      100,
    );
  });

  test("say how much is used, and what follows", () => {
    expect(usedWords(bar(64))).toBe("$3.20 of $5.00 used today, 64 %");
    expect(stateWords(bar(49), true)).toBe("All desktops are stopped at 100 %, never deleted.");
    expect(stateWords(bar(50), false)).toContain("More than half");
    expect(stateWords(bar(80), true)).toContain("More than 80 %");
    expect(stateWords(bar(100), false)).toBe(
      "The limit is reached: the desktop is stopped, never deleted. It can start again at 00:00 UTC, or when you raise the limit.",
    );
  });

  test("that are reached are found for a desktop: its own, or the account's", () => {
    const limits = [
      limit("account", { month_micros: 9 }),
      limit("a", { day_micros: 1_000_000, month_micros: 5_000_000 }),
    ];
    const none = { limits, installation_reached: false };
    expect(reachedFor("a", { ...none, spent: [spent("a", { day_percent: 99 })] })).toBeUndefined();
    const its = reachedFor("a", { ...none, spent: [spent("a", { day_percent: 100, state: "reached" })] });
    expect(its).toEqual({ all: false, period: "day", limit: 1_000_000 });
    expect(reachedWords(its!)).toMatch(/^This desktop's budget, \$1\.00 a day, is used up\./);
    const all = [spent("account", { month_percent: 120, state: "reached" })];
    expect(reachedFor("a", { ...none, spent: all })).toMatchObject({ all: true, period: "month" });
    expect(reachedFor("b", { ...none, spent: all })).toMatchObject({ all: true, period: "month" });
    expect(
      reachedFor("a", { ...none, spent: [spent("a", { day_percent: 100, month_percent: 100 })] }),
      "the month's lasts longer",
    ).toMatchObject({ period: "month" });
  });
});
