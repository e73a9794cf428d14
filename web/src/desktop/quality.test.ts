import { describe, expect, it } from "vitest";
import { adapt, levelFor, start, type Quality, type Sample } from "./quality";

const after = (q: Quality, seconds: number, s: Sample) =>
  Array.from({ length: seconds }).reduce<Quality>((now) => adapt(now, s), q);

const frame = (ms: number, bytes = 1_000) => ({ frame: { ms, bytes } });

describe("quality", () => {
  it("does not change for an idle desktop", () => {
    expect(after(start, 600, {}).level).toBe(start.level);
  });

  it("needs two slow seconds in a row to step down", () => {
    expect(after(start, 1, frame(900)).level).toBe(2);
    expect(after(start, 2, frame(900)).level).toBe(1);
    expect(after(start, 60, frame(900)).level).toBe(0);
    let q = start;
    for (let i = 0; i < 20; i++) q = adapt(adapt(q, frame(900)), frame(300));
    expect(q.level).toBe(2);
  });

  it("steps up to the top after the first picture of a fast connection", () => {
    expect(adapt(start, frame(20, 30_000)).level).toBe(3);
    expect(adapt(start, frame(400, 400_000)).level).toBe(3);
    expect(after(start, 600, frame(20, 30_000)).level).toBe(3);
  });

  it("does not take small frames for a fast connection", () => {
    expect(after(start, 600, frame(20)).level).toBe(2);
    expect(after(start, 600, frame(140, 120_000)).level).toBe(2);
    expect(after({ ...start, level: 0 }, 7, frame(20)).level).toBe(0);
    expect(after({ ...start, level: 0 }, 8, frame(20)).level).toBe(1);
    expect(after({ ...start, level: 0 }, 600, frame(20)).level).toBe(2);
  });

  it("forgets a quick picture at a slow second", () => {
    const tried = after(adapt(start, frame(20, 30_000)), 2, frame(900)); // more detail was too much
    expect(tried).toMatchObject({ level: 2, fast: false });
    expect(after(tried, 600, frame(20)).level).toBe(2);
    expect(after(tried, 16, frame(20, 30_000)).level).toBe(3);
  });

  it("retries less and less often after more detail was too much", () => {
    let q = start;
    let changes = 0;
    for (let second = 0; second < 600; second++) {
      const next = adapt(q, q.level === 3 ? frame(900) : frame(20, 30_000));
      if (next.level !== q.level) changes++;
      q = next;
    }
    expect(changes).toBeGreaterThan(2);
    expect(changes).toBeLessThan(16);
  });

  it("counts the wait in the server's queue, not the distance to it", () => {
    const far = { ...frame(20, 30_000), roundTripMs: 600 };
    expect(after(start, 8, far).level).toBe(3);
    const near = adapt(start, { roundTripMs: 30 });
    expect(after(near, 2, { ...frame(20), roundTripMs: 600 }).level).toBe(1);
  });

  it("lets the user decide", () => {
    expect(levelFor("best", { ...start, level: 0 })).toBe(3);
    expect(levelFor("slow", { ...start, level: 3 })).toBe(0);
    expect(levelFor("automatic", { ...start, level: 1 })).toBe(1);
  });
});
