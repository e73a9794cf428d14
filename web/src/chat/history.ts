// How the machine's history and new messages change a chat's messages.
import { limits, num, rec, type Message, type Rec } from "./frames";
import type { ChatState } from "./state";
import { inFlight, joined, placed, same, transcript } from "./transcript";

/** withUser adds what the user said, once. */
export function withUser(s: ChatState, m: Message): ChatState {
  if (s.messages.some((x) => same(x, m))) return s;
  // An answer may have ended before its question was confirmed; the question goes first all the same.
  const answer = m.run === undefined ? -1 : s.messages.findIndex((x) => x.run === m.run);
  const messages = [...s.messages];
  messages.splice(answer < 0 ? messages.length : answer, 0, m);
  // After a gap it is not put, so it stays where it is seen until a history has it.
  return { ...s, ...newest(s, messages), outbox: s.later ? s.outbox : s.outbox.filter((i) => i.key !== m.run) };
}

/** newest bounds what has grown at its end. After a gap nothing is put: it would look as if nothing were missing. */
export function newest(s: ChatState, messages: Message[]): Pick<ChatState, "messages" | "earlier"> {
  if (s.later) return s;
  const over = messages.length > limits.messages;
  return { messages: messages.slice(-limits.messages), earlier: over ? (s.earlier ?? limits.messages) : s.earlier };
}

/** history takes a page of what the machine has: the newest, or an earlier one. */
export function history(s: ChatState, p: Rec, offset: number, asked: number): ChatState {
  const loaded = transcript(p.messages, `h${offset}-`);
  const next = num(p.nextOffset) ?? 0;
  const earlier = p.hasMore === true && next > offset ? next : undefined;
  if (offset === 0) return latest(s, loaded, earlier, p, asked);
  const messages = joined(loaded, s.messages);
  return {
    ...s,
    earlier,
    later: s.later || messages.length > limits.messages,
    messages: messages.slice(0, limits.messages),
  };
}

/** latest replaces what is settled by what the machine has; what only this page knows is kept, and what stands before it. */
function latest(s: ChatState, loaded: Message[], earlier: number | undefined, p: Rec, asked: number): ChatState {
  const overlap = s.later ? -1 : s.messages.findIndex((x) => loaded.some((m) => same(x, m)));
  const kept = s.messages.slice(0, Math.max(0, overlap));
  const messages = joined(kept, loaded);
  const knownKeys = new Set(loaded.filter((m) => m.role === "user").map((m) => m.run));
  for (const m of s.messages.slice(kept.length)) {
    if (m.local && !knownKeys.has(m.run)) messages.push(m);
    // An answer that ended since the question was asked is newer than what came back.
    if (m.role === "assistant" && m.entry === undefined && (m.at ?? 0) >= asked && !loaded.some((x) => same(x, m)))
      messages.push(m);
    if (m.role === "note") {
      const after = messages.findLastIndex((x) => x.run === m.run);
      if (after >= 0) messages.splice(after + 1, 0, m);
    }
  }
  const now = inFlight(p.inFlightRun);
  // What a run told since the question was asked is newer than the answer.
  const runs = s.runs.filter((r) => r.heard >= asked && r.id !== now?.run);
  const over = s.runs.filter((r) => r.heard < asked && r.id !== now?.run).map((r) => r.id);
  if (now && !s.ended.includes(now.run)) {
    const known = s.runs.find((r) => r.id === now.run);
    const before = known ?? {
      id: now.run,
      phase: "",
      text: "",
      tools: [],
      startedAt: now.startedAt,
      stopping: false,
      chatSeq: 0,
      actSeq: 0,
      heard: asked,
    };
    const text = now.text.length > before.text.length ? now.text : before.text;
    runs.unshift({ ...before, text, tools: placed(before.tools, before.text, text) });
  }
  return {
    ...s,
    ...newest({ ...s, later: false, earlier: kept.length > 0 ? s.earlier : earlier }, messages),
    later: false,
    history: "ready",
    runs,
    ended: [...s.ended, ...over].slice(-200),
    outbox: s.outbox.filter((i) => !knownKeys.has(i.key)),
  };
}

/** confirmedBy are the outbox keys that a history proves to have arrived. */
export function confirmedBy(payload: unknown): string[] {
  return transcript(rec(payload).messages).flatMap((m) => (m.role === "user" && m.run ? [m.run] : []));
}
