import { describe, expect, it } from "vitest";
import { byPhase, keptLines, noBoot, reduceBoot } from "./boot";

const line = (seq: number, phase = "booting", text = "x") =>
  JSON.stringify({ seq, at: "2026-11-01T10:00:00Z", phase, text });

describe("reduceBoot", () => {
  it("adds a line once", () => {
    let b = reduceBoot(noBoot, "line", line(1));
    b = reduceBoot(b, "line", line(1));
    b = reduceBoot(b, "line", line(2));
    expect(b.lines.map((l) => l.seq)).toEqual([1, 2]);
    expect(b.waiting).toBe(false);
  });

  it("keeps a limited number and counts the rest", () => {
    let b = noBoot;
    for (let i = 0; i < keptLines + 7; i++) b = reduceBoot(b, "line", line(i));
    b = reduceBoot(b, "skipped", '{"lines":3}');
    expect(b.lines).toHaveLength(keptLines);
    expect(b.lines[0]!.seq).toBe(7);
    expect(b.skipped).toBe(10);
  });

  it("ignores unknown messages and invalid JSON", () => {
    expect(reduceBoot(noBoot, "line", "{")).toBe(noBoot);
    expect(reduceBoot(noBoot, "other", "{}")).toBe(noBoot);
  });
});

it("groups lines by phase", () => {
  let b = noBoot;
  b = reduceBoot(b, "line", line(1, "booting"));
  b = reduceBoot(b, "line", line(2, "installing"));
  b = reduceBoot(b, "line", line(3, "installing"));
  expect(byPhase(b.lines).map((g) => [g.phase, g.lines.length])).toEqual([
    ["booting", 1],
    ["installing", 2],
  ]);
});
