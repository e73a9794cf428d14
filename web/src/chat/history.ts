// How the machine's history and new messages change a chat's messages.
import { limits, num, rec, type InFlight, type Message, type Rec, type Tool } from "./frames";
import type { ChatState } from "./state";
import { inFlight, joined, placed, same, transcript } from "./transcript";

/** withUser adds a message of the user, once. */
export function withUser(s: ChatState, m: Message): ChatState {
  if (s.messages.some((x) => same(x, m))) return s;
  // An answer may have ended before its question was confirmed; the question still goes first.
  const answer = m.run === undefined ? -1 : s.messages.findIndex((x) => x.run === m.run);
  const messages = [...s.messages];
  messages.splice(answer < 0 ? messages.length : answer, 0, m);
  // After a gap, the message stays in the outbox until a history contains it.
  return { ...s, ...newest(s, messages), outbox: s.later ? s.outbox : s.outbox.filter((i) => i.key !== m.run) };
}

/** newest limits the messages after new ones were added. After a gap it adds none: the gap would not be visible. */
export function newest(s: ChatState, messages: Message[]): Pick<ChatState, "messages" | "earlier"> {
  if (s.later) return s;
  const over = messages.length > limits.messages;
  return { messages: messages.slice(-limits.messages), earlier: over ? (s.earlier ?? limits.messages) : s.earlier };
}

/** history adds a page of the machine's history: the newest, or an earlier one. */
export function history(s: ChatState, p: Rec, offset: number, asked: number): ChatState {
  const loaded = transcript(p.messages, `h${offset}-`);
  const earlier = nextPage(p, offset);
  if (offset === 0) return latest(s, loaded, earlier, p, asked);
  const messages = joined(loaded, s.messages);
  return {
    ...s,
    earlier,
    later: s.later || messages.length > limits.messages,
    messages: messages.slice(0, limits.messages),
  };
}

/**
 * latest replaces settled messages by the machine's. It keeps messages that only this page has, and those before the
 * machine's page.
 */
function latest(s: ChatState, page: Message[], earlier: number | undefined, p: Rec, asked: number): ChatState {
  const reported = inFlight(p.inFlightRun);
  const now = reported && !s.ended.includes(reported.run) ? reported : undefined;
  const { loaded, tools: done, told } = underway(page, now);
  const overlap = s.later ? -1 : s.messages.findIndex((x) => loaded.some((m) => same(x, m)));
  const kept = s.messages.slice(0, Math.max(0, overlap));
  const messages = joined(kept, loaded);
  const knownKeys = new Set(loaded.filter((m) => m.role === "user").map((m) => m.run));
  for (const m of s.messages.slice(kept.length)) {
    if (m.local && !knownKeys.has(m.run)) messages.push(m);
    // An answer that ended after the request was sent is newer than the response.
    if (m.role === "assistant" && m.entry === undefined && (m.at ?? 0) >= asked && !loaded.some((x) => same(x, m)))
      messages.push(m);
    if (m.role === "note" && !loaded.some((x) => same(x, m))) {
      const after = messages.findLastIndex((x) => x.run === m.run);
      if (after >= 0) messages.splice(after + 1, 0, m);
    }
  }
  // Events of a run since the request was sent are newer than the response.
  const runs = s.runs.filter((r) => r.heard >= asked && r.id !== now?.run);
  const over = s.runs.filter((r) => r.heard < asked && r.id !== now?.run).map((r) => r.id);
  if (now) {
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
    const settled = new Set(loaded.flatMap((m) => (m.run === now.run ? m.tools.map((t) => t.id) : [])));
    const missed = done.filter((t) => !before.tools.some((x) => x.id === t.id));
    const rest = before.tools.filter((t) => !settled.has(t.id));
    const tools = [...placed(missed, told, text), ...placed(rest, before.text, text)];
    runs.unshift({ ...before, text, tools: tools.slice(-limits.tools) });
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

interface Underway {
  loaded: Message[];
  tools: Tool[]; // of the run
  told: string; // the text before the last of them
}

/** open reports whether the history has no result of a tool's use. */
const open = (t: Tool) => t.state === "stopped" && t.result === "" && !t.pictures;

/**
 * underway divides a page of the history while a run goes on, which has parts of it. Some agents report the run's whole
 * text: then those parts belong to it. Others report what follows them.
 */
function underway(page: Message[], now: InFlight | undefined): Underway {
  const its = (m: Message) => m.role === "assistant" && m.run === now?.run;
  const told = page.map((m) => (its(m) ? m.text : "")).join("");
  const whole = told !== "" && now?.text.startsWith(told) === true;
  const tools: Tool[] = [];
  let at = 0;
  const loaded = page.flatMap((m) => {
    if (!now || !its(m)) return [m];
    for (const t of m.tools)
      if (whole || open(t)) tools.push({ ...t, ...(open(t) && { state: "running" }), after: whole ? at + t.after : 0 });
    at += m.text.length;
    const rest = m.tools.filter((t) => !open(t));
    return whole || (m.text === "" && rest.length === 0 && !m.pictures) ? [] : [{ ...m, tools: rest }];
  });
  return { loaded, tools, told };
}

/** nextPage returns where the page before this one starts; undefined: there is none. */
export function nextPage(payload: unknown, offset: number): number | undefined {
  const p = rec(payload);
  const next = num(p.nextOffset) ?? 0;
  return p.hasMore === true && next > offset ? next : undefined;
}

/** confirmedBy returns the outbox keys that a history proves to have arrived. */
export function confirmedBy(payload: unknown): string[] {
  return transcript(rec(payload).messages).flatMap((m) => (m.role === "user" && m.run ? [m.run] : []));
}
