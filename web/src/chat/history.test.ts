import { describe, expect, test } from "vitest";
import { main, tell, chat, run, began, earlier, numbers, range, turn, history } from "./playing";
import { reduce } from "./reducer";
import { type ChatState } from "./state";
import { pageOf, said } from "./testing";

test("an answer that ended while the history was requested stays", () => {
  const s = run([
    chat("delta", 1, { deltaText: "hello" }),
    chat("final", 20),
    history(
      {
        messages: [{ role: "user", content: "q", idempotencyKey: "run:user" }],
        inFlightRun: { runId: "run", text: "" },
      },
      10,
    ),
  ]);
  expect(s.messages.map((m) => m.text)).toEqual(["q", "hello"]);
  // A run that ended before, and that the machine does not have, is not shown.
  expect(
    reduce(s, history({ messages: [{ role: "user", content: "q", idempotencyKey: "run:user" }] }, 30)).messages.map(
      (m) => m.text,
    ),
  ).toEqual(["q"]);
});

describe("a long chat", () => {
  test("messages since the first page are not shown twice", () => {
    const first = run([history(pageOf(250, 0)), chat("delta", 1, { deltaText: "250" }), chat("final", 2)]);
    const s = earlier(first, 260);
    expect(numbers(s)).toEqual(range(60, 251));
    expect(numbers(earlier(s, 260))).toEqual(range(0, 251));
    expect(earlier(s, 260).earlier).toBeUndefined();
  });

  test("without ids in the transcript, role and run identify a message", () => {
    const s = run([
      history({ messages: [...turn(2), ...turn(3)], hasMore: true, nextOffset: 4 }),
      { type: "history", key: main, payload: { messages: [...turn(1), ...turn(2)] }, offset: 4, asked: 0 },
    ]);
    expect(s.messages.map((m) => m.text)).toEqual(["q1", "a1", "q2", "a2", "q3", "a3"]);
  });

  test("a page that starts with a result gets its call from the page before", () => {
    const [call, result] = [
      {
        role: "assistant",
        content: [{ type: "toolCall", id: "c", name: "exec", arguments: { command: "ls" } }],
        __openclaw: { id: "x" },
      },
      { role: "toolResult", toolCallId: "c", toolName: "exec", content: "a file" },
    ];
    const s = run([history({ messages: [result, said(2)], hasMore: true, nextOffset: 2 })]);
    expect(s.messages[0]!.tools).toMatchObject([{ name: "exec", args: "", result: "a file", state: "done" }]);
    const all = reduce(s, { type: "history", key: main, payload: { messages: [said(0), call] }, offset: 2, asked: 0 });
    expect(all.messages.map((m) => [m.text, m.tools.length])).toEqual([
      ["0", 0],
      ["", 1],
      ["2", 0],
    ]);
    expect(all.messages[1]!.tools).toMatchObject([{ result: "a file", state: "done" }]);
    expect(all.messages[1]!.tools[0]!.args).toContain("ls");
  });

  test("beyond the limit the earliest stay, and the newest are known to be missing", () => {
    const all = range(0, 14).reduce(
      (s) => (s.earlier === undefined ? s : earlier(s, 1_200)),
      run([history(pageOf(1_200, 0))]),
    );
    expect(numbers(all)).toEqual(range(0, 1_000));
    expect(all).toMatchObject({ later: true, earlier: undefined });
    // A new message would be shown after the gap as if there were none.
    const heard = run(
      [
        chat("delta", 1, { deltaText: "1200" }),
        chat("final", 2),
        { type: "taken", key: main, item: { key: "k", text: "x", at: 0, state: "sent", tries: 1 } },
      ],
      all,
    );
    expect(numbers(heard)).toEqual(range(0, 1_000));
    // The user's own message stays visible in the outbox, until a history contains it.
    const item = { key: "mine", text: "mine", at: 0, state: "sent" as const, tries: 1 };
    const mine = run(
      [
        { type: "outbox", key: main, items: [item] },
        { type: "taken", key: main, item },
      ],
      all,
    );
    expect(mine.outbox).toEqual([item]);
    expect(
      reduce(mine, history({ messages: [{ role: "user", content: "mine", idempotencyKey: "mine:user" }] })).outbox,
    ).toEqual([]);
    const back = reduce(heard, history(pageOf(1_201, 0)));
    expect(numbers(back)).toEqual(range(1_101, 1_201));
    expect(back).toMatchObject({ later: false, earlier: 100 });
  });

  test("dropped messages can be loaded again", () => {
    const s = run([
      history(pageOf(20, 0)),
      ...range(0, 1_000).map((i) =>
        tell("chat", { runId: `r${i}`, sessionKey: main, seq: 1, state: "final", message: { content: `${i}` } }),
      ),
    ]);
    expect(s.messages).toHaveLength(1_000);
    expect(s.earlier).toBeDefined();
  });

  test("after a reconnect the earlier pages are still there", () => {
    const before = earlier(run([history(pageOf(250, 0))]), 250);
    const after = reduce(before, history(pageOf(260, 0)));
    expect(numbers(after)).toEqual(range(50, 260));
    expect(after.earlier).toBe(200);
    expect(after.messages[3]).toBe(before.messages[3]); // and it is not redrawn
    expect(numbers(earlier(after, 260))).toEqual(range(0, 260));
  });

  test("after a long absence only messages connected to the newest are kept", () => {
    const after = reduce(earlier(run([history(pageOf(250, 0))]), 250), history(pageOf(900, 0)));
    expect(numbers(after)).toEqual(range(800, 900));
    expect(after.earlier).toBe(100);
  });

  test("notes of failed runs stay where they are, once", () => {
    const messages = range(0, 4).map((n) => ({ ...said(n), idempotencyKey: n % 2 ? `r${n - 1}` : `r${n}:user` }));
    const failed = tell("chat", { runId: "r2", sessionKey: main, seq: 1, state: "error", errorMessage: "no" });
    const s = run([
      history({ messages }),
      failed,
      history({ messages: messages.slice(1) }),
      history({ messages: messages.slice(1) }),
    ]);
    expect(s.messages.map((m) => m.text)).toEqual(["0", "1", "2", "3", "no"]);
  });

  // As OpenClaw 2026.9.6 keeps them: a run without a model, and one whose provider did not answer.
  test("a failed run says why after a reload, once", () => {
    const messages = [
      { role: "user", content: "ask 1", idempotencyKey: "r1:user", __openclaw: { id: "u1" } },
      {
        role: "custom",
        customType: "run-failed-before-reply",
        content: "This turn ended before a reply: no key",
        __openclaw: { id: "f1", runId: "r1" },
      },
      { role: "custom", customType: "other", content: "not for the user", __openclaw: { id: "f2" } },
      { role: "user", content: "ask 2", idempotencyKey: "r2:user", __openclaw: { id: "u2" } },
      {
        role: "assistant",
        stopReason: "error",
        content: [{ type: "text", text: "no answer" }],
        idempotencyKey: "r2:terminal-error",
        __openclaw: { id: "f3", runId: "r2" },
      },
    ];
    const all = [
      ["user", "ask 1"],
      ["note", "no key"],
      ["user", "ask 2"],
      ["note", "no answer"],
    ];
    const loaded = run([history({ messages })]);
    expect(loaded.messages.map((m) => [m.role, m.text])).toEqual(all);
    expect(loaded.messages.filter((m) => m.role === "note").map((m) => m.id)).toEqual(["error-f1", "error-f3"]);
    const failed = tell("chat", { runId: "r2", sessionKey: main, seq: 1, state: "error", errorMessage: "no answer" });
    const seen = run([history({ messages: messages.slice(0, 4) }), failed, history({ messages })]);
    expect(seen.messages.map((m) => [m.role, m.text])).toEqual(all);
  });
});

// The history of a run that goes on: OpenClaw reports its last words only, the stand-in its whole text.
const used = (call: string, text: string) => ({
  role: "assistant",
  content: [
    { type: "text", text },
    { type: "toolCall", id: call, name: "computer", arguments: {} },
  ],
});
const gave = (call: string) => ({ role: "toolResult", toolCallId: call, content: [{ type: "text", text: "seen" }] });
const toolsOf = (s: ChatState) => [
  s.messages.flatMap((m) => m.tools.map((t) => `${t.id} ${t.state}`)),
  s.runs.flatMap((r) => r.tools.map((t) => `${t.id} ${t.state} ${t.after}`)),
];

describe("a history in the middle of a run", () => {
  const messages = [
    { role: "user", content: "q", idempotencyKey: "run:user" },
    used("a", "First. "),
    gave("a"),
    used("b", "Second. "),
  ];
  const during = (text: string) => history({ messages, inFlightRun: { runId: "run", text } });
  const seen = tell("agent", {
    runId: "run",
    sessionKey: main,
    seq: 9,
    stream: "tool",
    data: { phase: "result", toolCallId: "b", result: "seen" },
  });

  test("what follows the tools is the run's", () => {
    const s = run([during("Last.")]);
    expect(s.messages.map((m) => m.text)).toEqual(["q", "First. ", "Second. "]);
    expect(s.runs).toMatchObject([{ text: "Last." }]);
    expect(toolsOf(s)).toEqual([["a done"], ["b running 0"]]);
    expect(toolsOf(reduce(s, seen))).toEqual([["a done"], ["b done 0"]]);
  });

  test("the whole text has the tools in it", () => {
    const s = run([during("First. Second. Last.")]);
    expect(s.messages.map((m) => m.text)).toEqual(["q"]);
    expect(s.runs).toMatchObject([{ text: "First. Second. Last." }]);
    expect(toolsOf(s)).toEqual([[], ["a done 7", "b running 15"]]);
  });

  test.each(["Last.", "First. Second. Last."])("a page that saw them shows no tool twice: %s", (text) => {
    const s = run([during(text)], run([began("a"), began("b")]));
    expect(
      toolsOf(s)
        .flat()
        .map((t) => t[0])
        .toSorted(),
    ).toEqual(["a", "b"]);
    const end = run([chat("final", 1, { message: { role: "assistant", content: text } })], s);
    expect(end.messages.flatMap((m) => m.tools.map((t) => t.id)).toSorted()).toEqual(["a", "b"]);
    expect(end.messages.map((m) => m.text).join("")).toBe("qFirst. Second. Last.");
  });
});

const cut = (origin: string) => ({
  role: "assistant",
  content: "half",
  idempotencyKey: origin,
  openclawAbort: { aborted: true, origin, runId: origin },
});

test("an answer that a restart cut off is known to be incomplete", () => {
  const s = run([history({ messages: [cut("rpc"), cut("restart")] })]);
  expect(s.messages).toMatchObject([{ stopped: true }, { stopped: true, interrupted: true }]);
  expect(s.messages[0]!.interrupted).toBeUndefined();
});
