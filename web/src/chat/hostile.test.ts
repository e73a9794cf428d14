import { describe, expect, test } from "vitest";
import { parseFrame } from "./frames";
import { main, tell, chat, run, history } from "./playing";
import { reduce, type Action } from "./reducer";
import { empty } from "./state";

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
