import { describe, expect, test } from "vitest";
import recorded from "./testdata/frames.json";
import { parseFrame, type Frame } from "./frames";
import { reduce, type Action } from "./reducer";
import { empty, type ChatState } from "./state";
import { inOrder } from "./transcript";
import { pageOf, said } from "./testing";

// The frames come from the stand-in gateway; its own tests keep them current.
type Name = keyof typeof recorded;
const main = "agent:main:main";

const frames = (name: Name): Frame[] => recorded[name].map((f) => parseFrame(JSON.stringify(f))!);
const events = (name: Name) => frames(name).filter((f) => f.type === "event");
const answers = (name: Name) => frames(name).filter((f) => f.type === "res");

const tell = (event: string, payload: object, now = 1): Action => ({
  type: "event",
  event,
  payload: payload as Record<string, unknown>,
  now,
});
const chat = (state: string, seq: number, more: object = {}): Action =>
  tell("chat", { runId: "run", sessionKey: main, seq, state, ...more }, seq);
const run = (actions: Action[], from: ChatState = empty) => actions.reduce(reduce, from);
const play = (name: Name, from: ChatState = empty) =>
  run(
    events(name).map((f, i) => tell(f.event, f.payload, i)),
    from,
  );

// What the agent did and wrote, in order; the number of messages does not matter.
const shape = (s: ChatState) =>
  s.messages
    .filter((m) => m.role === "assistant")
    .flatMap((m) =>
      inOrder(m.text, m.tools).flatMap((p) => [
        ...(p.text ? [[m.run, p.text]] : []),
        ...p.tools.map((t) => [m.run, t.name, t.state, t.result]),
      ]),
    );
const began = (call: string) =>
  tell("agent", { runId: "run", sessionKey: main, stream: "tool", data: { phase: "start", toolCallId: call } });
const places = (s: ChatState) => (s.runs[0] ?? s.messages[0])!.tools.map((t) => t.after);
const other = (state: string) =>
  tell("chat", { runId: "r2", sessionKey: "agent:main:two", seq: 1, state, deltaText: "x" });
const replay = (name: Name, nth: number): unknown => {
  const r = answers(name)[nth]!;
  return r.payload;
};
const earlier = (s: ChatState, total: number): ChatState =>
  reduce(s, { type: "history", key: main, payload: pageOf(total, s.earlier!), offset: s.earlier!, asked: 0 });
const numbers = (s: ChatState) => s.messages.map((m) => Number(m.text));
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
const turn = (n: number) => [
  { role: "user", content: `q${n}`, idempotencyKey: `${n}:user` },
  { role: "assistant", content: `a${n}`, idempotencyKey: `${n}` },
];
const history = (payload: unknown, asked = 0): Action => ({ type: "history", key: main, payload, offset: 0, asked });

describe("recorded", () => {
  test("a run with tools shows them as they happen and settles", () => {
    const during: string[] = [];
    const end = events("tool").reduce((s, f, i) => {
      const next = reduce(s, tell(f.event, f.payload, i));
      during.push(...next.runs.flatMap((r) => r.tools.map((t) => `${t.name} ${t.state}`)));
      return next;
    }, empty);
    expect(new Set(during)).toEqual(new Set(["exec running", "exec done", "read running", "read failed"]));
    expect(end.runs).toEqual([]);
    expect(end.messages).toHaveLength(1);
    expect(end.messages[0]).toMatchObject({
      role: "assistant",
      run: "run",
      tools: [
        { name: "exec", state: "done" },
        { name: "read", state: "failed" },
      ],
    });
    expect(end.messages[0]!.tools[0]!.result).toContain("notes.txt");
    expect(shape(end).map(([, what]) => what)).toEqual([
      "I pretend to use two tools. The first lists the desktop's files.",
      "exec",
      "The second looks for a file that is not there.",
      "read",
      "That is all: one of them found something, the other did not. Nothing was run.",
    ]);
  });

  test("the phases of a cold start are shown", () => {
    const seen = events("cold").reduce<[ChatState, string[]]>(
      ([s, p], f) => {
        const next = reduce(s, tell(f.event, f.payload));
        return [next, [...p, next.runs[0]?.phase ?? ""]];
      },
      [empty, []],
    )[1];
    expect([...new Set(seen)].filter(Boolean)).toEqual([
      "preparing_workspace",
      "starting_model",
      "provisioning_environment",
      "running_setup",
      "preparing_context",
    ]);
  });

  test("replaced text disappears", () => {
    const [before] = events("replace").filter((f) => f.payload.replace === true);
    expect(before).toBeDefined();
    expect(play("replace").messages[0]!.text).toBe("This replaced what was here before. And this was added.");
  });

  test("an error reported twice is shown once", () => {
    const end = play("error");
    expect(events("error").filter((f) => f.payload.state === "error")).toHaveLength(2);
    expect(end.messages.filter((m) => m.role === "note")).toHaveLength(1);
    expect(end.messages[0]!.text).toBe("This begins well enough,");
  });

  test("an approval appears, and disappears when it is decided", () => {
    const all = events("approve");
    const at = all.findIndex((f) => f.event === "exec.approval.requested");
    const before = run(all.slice(0, at + 1).map((f) => tell(f.event, f.payload)));
    expect(before.approvals).toMatchObject([
      {
        kind: "exec",
        session: main,
        command: "rm -rf ~/Downloads/old",
        decisions: ["allow-once", "allow-always", "deny"],
      },
    ]);
    expect(play("approve").approvals).toEqual([]);
  });

  test("questions appear, and disappear when they are answered", () => {
    const asked = run(
      events("ask")
        .filter((f) => f.event === "question.requested")
        .map((f) => tell(f.event, f.payload)),
    );
    expect(asked.inquiries[0]!.questions.map((q) => [q.id, q.many, q.other])).toEqual([
      ["colour", false, true],
      ["tools", true, false],
      ["name", false, true],
    ]);
    expect(play("ask").inquiries).toEqual([]);
  });

  test("a request that a restart cancelled stays until it is dismissed, also over a new list", () => {
    const requested = events("approve").find((f) => f.event === "exec.approval.requested")!;
    const { id } = requested.payload;
    const restart = { id, status: "cancelled", reason: "gateway-restart" };
    const after = run([
      tell(requested.event, requested.payload),
      tell("exec.approval.resolved", restart),
      tell("exec.approval.resolved", { ...restart, id: "another" }),
      { type: "approvals", kind: "exec", payload: [] },
    ]);
    expect(after.approvals).toMatchObject([{ id, over: true }]);
    expect(run([{ type: "answered", id: String(id) }], after).approvals).toEqual([]);
  });

  test("history is the same conversation as the live one", () => {
    const heard = play("history");
    const read = run([history(replay("history", 1))]);
    expect(shape(read)).toEqual(shape(heard));
    expect(read.messages[0]).toMatchObject({ role: "user", text: "/tool", run: "run" });
    expect(run([{ type: "sessions", payload: replay("history", 2) }]).sessions).toMatchObject([
      { key: main, title: "Main", main: true },
    ]);
  });

  test("after a reconnect the answer under way continues where history ends, without duplicates", () => {
    const before = run([
      chat("delta", 1, { deltaText: "This is " }),
      { type: "taken", key: main, item: { key: "run", text: "/slow", at: 0, state: "sent", tries: 1 } },
    ]);
    const after = run([history(replay("reconnect", 2), 5)], before);
    expect(after.messages.map((m) => m.text)).toEqual(["/slow"]);
    expect(after.runs).toMatchObject([{ id: "run", text: "This is sentence 1 " }]);
    const done = run([chat("delta", 4, { deltaText: "of sixty." }), chat("final", 5)], after);
    expect(done.messages.map((m) => m.text)).toEqual(["/slow", "This is sentence 1 of sixty."]);
  });
});

describe("failures on the way", () => {
  test("a run whose model does not answer shows why it retries", () => {
    // As OpenClaw 2026.9.6 sent it.
    const retrying = {
      phase: "retrying",
      message: "Provider temporarily unavailable. Retrying in 22s (5/8).",
      retryAttempt: 5,
      maxRetries: 8,
      delayMs: 21140,
      attempt: 6,
      maxAttempts: 9,
      reason: "timeout",
    };
    const s = run([
      chat("status", 1, { phase: "starting_model" }),
      tell("agent", { runId: "run", stream: "run_status", data: retrying, sessionKey: main, seq: 2 }),
    ]);
    expect(s.runs[0]!.phase).toBe("Provider temporarily unavailable. Retrying in 22s (5/8)");
    expect(run([chat("status", 3, { phase: "preparing_context" })], s).runs[0]!.phase).toBe("preparing_context");
  });

  test("late and repeated deltas are ignored", () => {
    const s = run([
      chat("delta", 1, { deltaText: "a" }),
      chat("delta", 3, { deltaText: "c" }),
      chat("delta", 2, { deltaText: "b" }),
      chat("delta", 3, { deltaText: "c" }),
    ]);
    expect(s.runs[0]!.text).toBe("ac");
  });

  test("the whole text, if included, repairs a gap", () => {
    const s = run([
      chat("delta", 1, { deltaText: "a" }),
      chat("delta", 3, { deltaText: "c", message: { role: "assistant", content: [{ type: "text", text: "abc" }] } }),
    ]);
    expect(s.runs[0]!.text).toBe("abc");
  });

  test("tools keep their place while the text before them is unchanged, and otherwise go first", () => {
    const s = run([
      chat("delta", 1, { deltaText: "One. " }),
      began("a"),
      chat("delta", 2, { deltaText: "Two. " }),
      began("b"),
    ]);
    expect(places(s)).toEqual([5, 10]);
    expect(places(run([chat("final", 3, { message: { content: "One. Two. Three." } })], s))).toEqual([5, 10]);
    expect(places(run([chat("final", 3, { message: { content: "Three." } })], s))).toEqual([0, 0]);
    expect(places(run([chat("final", 3, { message: { content: "One. And three." } })], s))).toEqual([5, 0]);
    expect(places(run([chat("delta", 3, { deltaText: "Instead.", replace: true })], s))).toEqual([0, 0]);
    expect(
      places(run([history({ messages: [], inFlightRun: { runId: "run", text: "Quite another text." } }, 9)], s)),
    ).toEqual([0, 0]);
  });

  test("in history, too, the text before a tool is shown before it", () => {
    const call = { type: "toolCall", id: "c", name: "exec" };
    const s = run([
      history({
        messages: [
          { role: "assistant", content: [{ type: "text", text: "First" }, call, { type: "text", text: "then" }] },
          { role: "toolResult", toolCallId: "c", content: "ok" },
          { role: "assistant", content: "at last" },
        ],
      }),
    ]);
    expect(shape(s).map(([, what]) => what)).toEqual(["First", "exec", "\n\nthen", "at last"]);
  });

  test("an ended run never returns", () => {
    const s = run([chat("delta", 1, { deltaText: "a" }), chat("final", 2)]);
    expect(
      run(
        [
          chat("delta", 3, { deltaText: "b" }),
          chat("status", 4, { phase: "x" }),
          chat("final", 5),
          chat("aborted", 6),
          tell("agent", {
            runId: "run",
            sessionKey: main,
            seq: 9,
            stream: "tool",
            data: { phase: "start", toolCallId: "t" },
          }),
        ],
        s,
      ),
    ).toBe(s);
  });

  test("a run that ended while disconnected is not shown as running", () => {
    const before = run([chat("delta", 1, { deltaText: "half" })]);
    const after = run(
      [
        history(
          {
            messages: [
              { role: "user", content: "q", idempotencyKey: "run:user" },
              { role: "assistant", content: "half and whole" },
            ],
          },
          10,
        ),
      ],
      before,
    );
    expect(after.runs).toEqual([]);
    expect(after.messages.map((m) => m.text)).toEqual(["q", "half and whole"]);
  });

  test("a run that started after history was requested stays", () => {
    const s = run([chat("delta", 20, { deltaText: "new" }), history({ messages: [] }, 15)]);
    expect(s.runs).toMatchObject([{ text: "new" }]);
  });

  test("a user's message is shown once, whether from the outbox, the event or history", () => {
    const item = { key: "k", text: "hello", at: 0, state: "sent" as const, tries: 1 };
    const user = { role: "user", content: [{ type: "text", text: "hello" }], idempotencyKey: "k:user", timestamp: 1 };
    const s = run([
      { type: "outbox", key: main, items: [item] },
      tell("session.message", { sessionKey: main, messageSeq: 1, message: user }),
      { type: "taken", key: main, item },
      history({ messages: [user] }),
      tell("session.message", { sessionKey: main, messageSeq: 1, message: user }),
    ]);
    expect(s.messages.map((m) => m.text)).toEqual(["hello"]);
    expect(s.outbox).toEqual([]);
  });

  test("an accepted message stays while the history lacks it", () => {
    const s = run([
      { type: "taken", key: main, item: { key: "k", text: "hello", at: 0, state: "sent", tries: 1 } },
      history({ messages: [] }),
    ]);
    expect(s.messages.map((m) => m.text)).toEqual(["hello"]);
  });

  test("another session's run marks that session as busy and does not affect this one", () => {
    const s = run([other("delta")]);
    expect(s).toMatchObject({ busy: ["agent:main:two"], runs: [] });
    expect(run([other("final")], s).busy).toEqual([]);
  });

  test("a session that is left while it is being answered is busy until the answer ends", () => {
    const s = run([chat("delta", 1, { deltaText: "x" }), { type: "open", key: "agent:main:two", outbox: [] }]);
    expect(s.busy).toEqual([main]);
    expect(reduce(s, chat("final", 2)).busy).toEqual([]);
    expect(reduce(s, { type: "open", key: main, outbox: [] }).busy).toEqual([]);
    expect(reduce(s, { type: "connected", main }).busy).toEqual([]); // its end may have been missed
  });

  test("a stop before any text leaves a note", () => {
    const s = run([
      chat("status", 1, { phase: "preparing_workspace" }),
      { type: "stopping", run: "run" },
      chat("aborted", 2),
    ]);
    expect(s.messages).toMatchObject([{ role: "note" }]);
  });

  test("prompts that no run waits for are withdrawn", () => {
    const s = run([
      tell("question.requested", {
        id: "q",
        questions: [{ questionId: "a", question: "?", header: "", options: [] }],
        expiresAtMs: 50,
        createdAtMs: 1,
        status: "pending",
      }),
    ]);
    expect(s.inquiries).toHaveLength(1);
    expect(reduce(s, { type: "expired", now: 49 })).toBe(s);
    expect(reduce(s, { type: "expired", now: 50 }).inquiries).toEqual([]);
  });

  test("a stopped answer is marked as stopped after a reload", () => {
    const s = run([
      history({
        messages: [
          { role: "assistant", content: "half", openclawAbort: { aborted: true } },
          { role: "assistant", content: "whole" },
        ],
      }),
    ]);
    expect(s.messages.map((m) => m.stopped)).toEqual([true, undefined]);
  });

  test("earlier messages are added before the others", () => {
    const s = run([history({ messages: [{ role: "user", content: "late" }], hasMore: true, nextOffset: 1 })]);
    expect(s.earlier).toBe(1);
    const all = run(
      [
        {
          type: "history",
          key: main,
          payload: { messages: [{ role: "user", content: "early" }] },
          offset: 1,
          asked: 0,
        },
      ],
      s,
    );
    expect(all.messages.map((m) => m.text)).toEqual(["early", "late"]);
    expect(all.earlier).toBeUndefined();
    expect(new Set(all.messages.map((m) => m.id)).size).toBe(2);
  });
});

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
});

const image = (more: object) => ({ type: "image", alt: "a face", mimeType: "image/png", ...more });

describe("data from the machine is not trusted", () => {
  test("an included picture is shown, and none is fetched", () => {
    const shown = run([
      history({
        messages: [
          { role: "user", content: [{ type: "text", text: "look" }, image({ data: "iVBO+/8=" })] },
          {
            role: "assistant",
            content: [
              { type: "image", source: { type: "base64", media_type: "image/webp", data: "AAAA" } },
              { type: "toolCall", id: "c", name: "browser" },
            ],
          },
          { role: "toolResult", toolCallId: "c", content: [image({ data: "BBBB", mimeType: "image/jpeg" })] },
        ],
      }),
    ]).messages;
    expect(shown).toMatchObject([
      { text: "look", pictures: [{ src: "data:image/png;base64,iVBO+/8=", alt: "a face" }] },
      {
        text: "",
        pictures: [{ src: "data:image/webp;base64,AAAA" }],
        tools: [{ result: "", pictures: [{ src: "data:image/jpeg;base64,BBBB" }] }],
      },
    ]);
    const final = run([chat("final", 1, { message: { content: [image({ data: "CCCC" })] } })]).messages;
    expect(final).toMatchObject([{ text: "", pictures: [{ src: "data:image/png;base64,CCCC" }] }]);
    for (const bad of [
      { data: "https://example.com/x.png" },
      { url: "https://example.com/x.png" },
      { data: "AAAA", mimeType: "image/svg+xml" },
      { data: "AAAA", mimeType: "image/png\n,x" },
      { data: "A".repeat(7 << 20) },
      { data: 7 },
    ]) {
      const [m] = run([history({ messages: [{ role: "user", content: [image(bad)] }] })]).messages;
      expect(m).toMatchObject({ text: "[image: a face]" });
      expect(m).not.toHaveProperty("pictures");
    }
  });

  const strange: unknown[] = [
    null,
    undefined,
    1,
    "x",
    [],
    {},
    { runId: 7 },
    { runId: "r", state: "delta", sessionKey: main, deltaText: { a: 1 } },
    { runId: "r", sessionKey: main, state: "final", message: { content: [null, 3, { text: 4 }] } },
    { message: [] },
    { id: {}, questions: "no" },
    { id: "q", questions: [null, { questionId: "a" }] },
  ];
  test.each([
    "chat",
    "agent",
    "session.message",
    "exec.approval.requested",
    "question.requested",
    "question.resolved",
    "unheard.of",
  ])("%s of any shape", (event) => {
    for (const payload of strange)
      expect(() =>
        reduce(empty, { type: "event", event, payload: (payload ?? {}) as Record<string, unknown>, now: 1 }),
      ).not.toThrow();
  });
  test("frames of any shape cause no error", () => {
    for (const text of ["", "null", "[]", "7", '{"type":"event"}', '{"type":"res"}', '{"type":"event","event":7}', "{"])
      expect(parseFrame(text)).toBeUndefined();
    expect(parseFrame(new ArrayBuffer(3))).toBeUndefined();
  });
  test("answers of any shape cause no error", () => {
    for (const payload of strange) {
      for (const a of [
        history(payload),
        { type: "sessions", payload },
        { type: "approvals", kind: "exec", payload },
        { type: "inquiries", payload },
      ] as Action[])
        expect(() => reduce(empty, a)).not.toThrow();
    }
  });
  test("text is limited", () => {
    const huge = "x".repeat(1_000_000);
    const s = run([
      chat("delta", 1, { deltaText: huge }),
      tell("agent", {
        runId: "run",
        sessionKey: main,
        seq: 1,
        stream: "tool",
        ts: 1,
        data: { phase: "start", name: huge, toolCallId: "t", args: { huge } },
      }),
    ]);
    expect(s.runs[0]!.text.length).toBeLessThan(200_010);
    expect(s.runs[0]!.tools[0]!.args.length).toBeLessThan(8_010);
    const many = run(
      Array.from({ length: 1_200 }, (_, i) =>
        tell("chat", { runId: `r${i}`, sessionKey: main, seq: 1, state: "final", message: { content: `m${i}` } }),
      ),
    );
    expect(many.messages).toHaveLength(1_000);
    expect(many.messages.at(-1)!.text).toBe("m1199");
  });
});
