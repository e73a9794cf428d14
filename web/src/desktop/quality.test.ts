import { describe, expect, it } from "vitest";
import { adapt, levelFor, levels, start, type Quality, type Sample } from "./quality";

const after = (q: Quality, seconds: number, s: Sample) =>
  Array.from({ length: seconds }).reduce<Quality>((now) => adapt(now, s), q);

describe("quality", () => {
  it("does not change for an idle desktop", () => {
    expect(after(start, 600, {}).level).toBe(start.level);
  });

  it("needs two slow seconds in a row to step down", () => {
    expect(after(start, 1, { frameMs: 900 }).level).toBe(2);
    expect(after(start, 2, { frameMs: 900 }).level).toBe(1);
    expect(after(start, 60, { frameMs: 900 }).level).toBe(0);
    let q = start;
    for (let i = 0; i < 20; i++) q = adapt(adapt(q, { frameMs: 900 }), { frameMs: 300 });
    expect(q.level).toBe(2);
  });

  it("steps up to the top on a fast connection", () => {
    expect(after(start, 7, { frameMs: 20 }).level).toBe(2);
    expect(after(start, 8, { frameMs: 20 }).level).toBe(3);
    expect(after(start, 600, { frameMs: 20 }).level).toBe(3);
  });

  it("retries less and less often after more detail was too much", () => {
    let q = start;
    let changes = 0;
    for (let second = 0; second < 600; second++) {
      const next = adapt(q, { frameMs: q.level === 3 ? 900 : 20 });
      if (next.level !== q.level) changes++;
      q = next;
    }
    expect(changes).toBeLessThan(16);
  });

  it("counts the wait in the server's queue, not the distance to it", () => {
    const far = { frameMs: 20, roundTripMs: 600 };
    expect(after(start, 8, far).level).toBe(3);
    const near = adapt(start, { roundTripMs: 30 });
    expect(after(near, 2, { frameMs: 20, roundTripMs: 600 }).level).toBe(1);
  });

  it("lets the user decide", () => {
    expect(levelFor("best", { ...start, level: 0 })).toBe(levels[3]);
    expect(levelFor("slow", { ...start, level: 3 })).toBe(levels[0]);
    expect(levelFor("automatic", { ...start, level: 1 })).toBe(levels[1]);
  });
});
