// Actions for the tests of the chat's reducer, and what they read of its state.
import recorded from "./testdata/frames.json";
import { parseFrame, type Frame } from "./frames";
import { reduce, type Action } from "./reducer";
import { empty, type ChatState } from "./state";
import { inOrder } from "./transcript";
import { pageOf } from "./testing";

// The frames come from the stand-in gateway; its own tests keep them current.
export type Name = keyof typeof recorded;
export const main = "agent:main:main";

export const frames = (name: Name): Frame[] => recorded[name].map((f) => parseFrame(JSON.stringify(f))!);
export const events = (name: Name) => frames(name).filter((f) => f.type === "event");
export const answers = (name: Name) => frames(name).filter((f) => f.type === "res");

export const tell = (event: string, payload: object, now = 1): Action => ({
  type: "event",
  event,
  payload: payload as Record<string, unknown>,
  now,
});
export const chat = (state: string, seq: number, more: object = {}): Action =>
  tell("chat", { runId: "run", sessionKey: main, seq, state, ...more }, seq);
export const run = (actions: Action[], from: ChatState = empty) => actions.reduce(reduce, from);
export const play = (name: Name, from: ChatState = empty) =>
  run(
    events(name).map((f, i) => tell(f.event, f.payload, i)),
    from,
  );

// What the agent did and wrote, in order; the number of messages does not matter.
export const shape = (s: ChatState) =>
  s.messages
    .filter((m) => m.role === "assistant")
    .flatMap((m) =>
      inOrder(m.text, m.tools).flatMap((p) => [
        ...(p.text ? [[m.run, p.text]] : []),
        ...p.tools.map((t) => [m.run, t.name, t.state, t.result]),
      ]),
    );
export const began = (call: string) =>
  tell("agent", { runId: "run", sessionKey: main, stream: "tool", data: { phase: "start", toolCallId: call } });
export const places = (s: ChatState) => (s.runs[0] ?? s.messages[0])!.tools.map((t) => t.after);
export const other = (state: string) =>
  tell("chat", { runId: "r2", sessionKey: "agent:main:two", seq: 1, state, deltaText: "x" });
export const replay = (name: Name, nth: number): unknown => {
  const r = answers(name)[nth]!;
  return r.payload;
};
export const earlier = (s: ChatState, total: number): ChatState =>
  reduce(s, { type: "history", key: main, payload: pageOf(total, s.earlier!), offset: s.earlier!, asked: 0 });
export const numbers = (s: ChatState) => s.messages.map((m) => Number(m.text));
export const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
export const turn = (n: number) => [
  { role: "user", content: `q${n}`, idempotencyKey: `${n}:user` },
  { role: "assistant", content: `a${n}`, idempotencyKey: `${n}` },
];
export const history = (payload: unknown, asked = 0): Action => ({
  type: "history",
  key: main,
  payload,
  offset: 0,
  asked,
});
