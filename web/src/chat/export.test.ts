import { describe, expect, test } from "vitest";
import { collect, fileName, markdownOf } from "./export";
import { found } from "./find";
import type { Message } from "./frames";
import { pageOf } from "./testing";

const go = () => new AbortController().signal;
const message = (more: Partial<Message>): Message => ({
  id: "x",
  role: "assistant",
  text: "",
  tools: [],
  at: undefined,
  run: undefined,
  ...more,
});

describe("an export", () => {
  test("has all pages in order, although a new message shifts them", async () => {
    let total = 250;
    const counts: number[] = [];
    const ask = (offset: number) => Promise.resolve(pageOf(total++, offset));
    const { messages, cut } = await collect(ask, (n) => counts.push(n), go());
    expect(messages.map((m) => m.text)).toEqual(Array.from({ length: 250 }, (_, i) => `${i}`));
    expect(cut).toBe(false);
    expect(counts.at(-1)).toBe(250);
  });

  test("has a limited number of pages, and says so", async () => {
    let asked = 0;
    const ask = (offset: number) => Promise.resolve((asked++, pageOf(1e6, offset)));
    const all = await collect(ask, () => undefined, go(), 3);
    expect([asked, all.cut, all.messages.length]).toEqual([3, true, 300]);
    expect(markdownOf(all, "d", "s", new Date())).toContain("Earlier messages are left out");
  });

  test("ends when it is cancelled", async () => {
    const stop = new AbortController();
    let asked = 0;
    const ask = (offset: number) => Promise.resolve((asked++, stop.abort(), pageOf(1e6, offset)));
    await expect(collect(ask, () => undefined, stop.signal)).rejects.toThrow();
    expect(asked).toBe(1);
  });

  test("names roles, times, tools, errors and pictures", () => {
    const at = new Date(2026, 10, 28, 9, 5, 7).getTime();
    const use = { id: "t", startedAt: undefined, endedAt: undefined };
    const messages = [
      message({ role: "user", text: "Look", at, pictures: [{ src: "data:x", alt: "a\ncat" }] }),
      message({
        text: "First.Then.",
        tools: [{ ...use, name: "exec", args: "a ```` b", result: "", state: "denied", after: 6 }],
        stopped: true,
        interrupted: true,
      }),
      message({ role: "note", text: "no key", at: 1e300 }),
    ];
    const text = markdownOf({ messages, cut: false, answering: true }, "My\ndesktop", "Main", new Date(at));
    expect(text).toBe(
      [
        "# Main",
        "Desktop: My desktop. Exported: 2026-11-28 09:05:07. Messages: 3.",
        "## You · 2026-11-28 09:05:07",
        "Look",
        "*[Picture: a cat]*",
        "## The agent",
        "First.",
        "**Tool `exec`: Denied**",
        "Input:",
        "`````\na ```` b\n`````",
        "Then.",
        "*Interrupted: this answer is not complete.*",
        "## Error",
        "no key",
        "*The agent was still answering. The rest of the answer is not in this file.*",
      ].join("\n\n") + "\n",
    );
  });

  test.each([
    ["My desktop", "Plan: a/b\\c", "My desktop - Plan- a-b-c - 2026-11-28.md"],
    ["../..", "", "desktop - chat - 2026-11-28.md"],
    ["Büro", "x".repeat(200), `Büro - ${"x".repeat(60)} - 2026-11-28.md`],
  ])("has a file name for %j and %j", (desktop, session, name) => {
    expect(fileName(desktop, session, new Date(2026, 10, 28))).toBe(name);
  });
});

describe("a search", () => {
  const messages = ["A **strong** word", "another\nline", "snake_case"].map((text, i) => message({ id: `${i}`, text }));
  test.each([
    ["a strong WORD", ["0"]],
    ["other line", ["1"]],
    ["snake_case", ["2"]],
    [" ", []],
    ["*", []],
    ["none", []],
  ])("finds %j in %j", (query, ids) => {
    expect(found(messages, query)).toEqual(ids);
  });
});
