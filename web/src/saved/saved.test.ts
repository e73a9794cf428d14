import { expect, test } from "vitest";
import { chosen, messagesOf, savedWords, titleOf, type SavedSession } from "./saved";

const session = (more: Partial<SavedSession> = {}): SavedSession => ({
  key: "agent:main:main",
  title: "",
  updated_at: 5,
  messages: [],
  left_out: false,
  shortened: false,
  ...more,
});

const text = (t: string) => [{ type: "text", text: t }];

const copyOf = (...sessions: SavedSession[]) => ({ saved_at: "", left_out: 0, sessions });

test("messages are read as those of the live chat, with an error and what ran", () => {
  const messages = [
    { role: "user", content: text("question"), idempotencyKey: "r1:user", timestamp: 7 },
    {
      role: "assistant",
      content: text("no key"),
      stopReason: "error",
      idempotencyKey: "r1:terminal-error",
      timestamp: 8,
    },
    { role: "user", content: text("again"), idempotencyKey: "r2:user" },
    { role: "assistant", content: text("First."), idempotencyKey: "r2" },
  ];
  const running = { runId: "r2", text: "First. Second" };
  const got = messagesOf(session({ messages, running }));
  expect(got.map((m) => [m.role, m.text, m.interrupted ?? false])).toEqual([
    ["user", "question", false],
    ["note", "no key", false],
    ["user", "again", false],
    ["assistant", "First.", false],
    ["assistant", " Second", true],
  ]);
  expect(got[1]!.id).toMatch(/^error-/);
  expect(messagesOf(session({ messages })).length).toBe(4);
});

test("what is not a message is left out", () => {
  const messages = [null, 5, { role: "user" }, { role: "user", content: text("kept") }] as SavedSession["messages"];
  expect(messagesOf(session({ messages })).map((m) => m.text)).toEqual(["kept"]);
});

test("the chat of the address is chosen, else the main one, else the newest", () => {
  const [a, main] = [session({ key: "agent:main:a", title: "A" }), session()];
  expect(chosen(copyOf(a, main), "agent:main:a")).toBe(a);
  expect(chosen(copyOf(a, main), "gone")).toBe(main);
  expect(chosen(copyOf(a), undefined)).toBe(a);
  expect(chosen(copyOf(), undefined)).toBeUndefined();
  expect([titleOf(a), titleOf(main), titleOf(session({ key: "agent:main:b" }))]).toEqual(["A", "Main", "New chat"]);
});

test("the words say when it was saved and what to do", () => {
  const now = new Date(2026, 10, 28, 15, 0);
  const at = new Date(2026, 10, 28, 14, 3).toISOString();
  expect(savedWords(at, { status: "stopped" }, now)).toMatch(
    /^Saved (14:03|0?2:03.PM), before the desktop stopped\. Start the desktop to continue\.$/,
  );
  expect(savedWords(at, { status: "failed" }, new Date(2026, 11, 1))).toMatch(/^Saved .*2026.*14:03|2:03/);
});
