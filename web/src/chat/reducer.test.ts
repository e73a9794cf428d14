import { describe, expect, test } from "vitest";
import { main, events, tell, chat, run, play, shape, began, places, other, replay, history } from "./playing";
import { reduce } from "./reducer";
import { empty, type ChatState } from "./state";

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
