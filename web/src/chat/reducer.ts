// The state of a chat, and how frames, answers and the outbox change it. Pure: no clock, no connection.
import {
  approval,
  id,
  inFlight,
  inquiry,
  joined,
  limits,
  list,
  num,
  pictures,
  placed,
  plain,
  rec,
  same,
  sessions,
  shown,
  str,
  transcript,
  type Approval,
  type Inquiry,
  type Message,
  type Rec,
  type Session,
  type Tool,
} from "./frames";
import type { Item } from "./outbox";

/** Run is an answer under way in the open session. */
export interface Run {
  id: string;
  phase: string; // of a start; "" once there is something to read
  text: string;
  tools: Tool[];
  startedAt: number | undefined;
  stopping: boolean;
  chatSeq: number; // of the latest delta
  actSeq: number; // of the latest agent event
  heard: number; // when it last told something
}

export interface ChatState {
  main: string;
  current: string; // key of the open session
  sessions: Session[];
  busy: string[]; // keys of other sessions that are being answered
  history: "none" | "loading" | "ready" | "failed";
  earlier: number | undefined; // where earlier messages begin, or sooner: they come in between; undefined: there are none
  later: boolean; // the newest messages had to make room for the earliest
  messages: Message[];
  runs: Run[];
  ended: string[]; // ids of runs, newest last: what they still say is ignored
  approvals: Approval[];
  inquiries: Inquiry[];
  outbox: Item[]; // of the open session
}

export type Action =
  | { type: "connected"; main: string }
  | { type: "event"; event: string; payload: Rec; now: number }
  | { type: "sessions"; payload: unknown }
  | { type: "open"; key: string; outbox: Item[] }
  | { type: "loading" }
  | { type: "history"; key: string; payload: unknown; offset: number; asked: number } // asked: when
  | { type: "historyFailed"; key: string }
  | { type: "approvals"; kind: "exec" | "plugin"; payload: unknown }
  | { type: "inquiries"; payload: unknown }
  | { type: "answered"; id: string }
  | { type: "expired"; now: number }
  | { type: "outbox"; key: string; items: Item[] }
  | { type: "taken"; key: string; item: Item }
  | { type: "stopping"; run: string };

/** What the main session is called until the machine says so. */
const main = "agent:main:main";

export const empty: ChatState = {
  main,
  current: main,
  sessions: [],
  busy: [],
  history: "none",
  earlier: undefined,
  later: false,
  messages: [],
  runs: [],
  ended: [],
  approvals: [],
  inquiries: [],
  outbox: [],
};

export function reduce(s: ChatState, a: Action): ChatState {
  switch (a.type) {
    case "connected":
      return { ...s, main: a.main, busy: [] }; // who ended meanwhile was not heard
    case "event":
      return event(s, a.event, a.payload, a.now);
    case "sessions":
      return { ...s, sessions: sessions(a.payload, s.main) };
    case "open":
      return {
        ...s,
        current: a.key,
        history: "none",
        earlier: undefined,
        later: false,
        messages: [],
        runs: [],
        outbox: a.outbox,
        busy: [...s.busy, ...(s.runs.length > 0 ? [s.current] : [])].filter((k) => k !== a.key),
      };
    case "loading":
      return s.history === "ready" ? s : { ...s, history: "loading" };
    case "history":
      return a.key === s.current ? history(s, rec(a.payload), a.offset, a.asked) : s;
    case "historyFailed":
      return a.key === s.current && s.history !== "ready" ? { ...s, history: "failed" } : s;
    case "approvals": {
      const fresh = list(a.payload, limits.prompts).flatMap((v) => approval(v, a.kind) ?? []);
      return { ...s, approvals: [...s.approvals.filter((x) => x.kind !== a.kind), ...fresh] };
    }
    case "inquiries":
      return { ...s, inquiries: list(rec(a.payload).questions, limits.prompts).flatMap((v) => inquiry(v) ?? []) };
    case "answered":
      return withoutPrompts(s, (p) => p.id === a.id);
    case "expired":
      return withoutPrompts(s, (p) => p.expiresAt <= a.now);
    case "outbox":
      return a.key === s.current ? { ...s, outbox: a.items } : s;
    case "taken":
      return a.key === s.current
        ? withUser(s, {
            id: a.item.key,
            role: "user",
            text: a.item.text,
            tools: [],
            at: a.item.at,
            run: a.item.key,
            local: true,
          })
        : s;
    case "stopping":
      return { ...s, runs: s.runs.map((r) => (r.id === a.run ? { ...r, stopping: true } : r)) };
  }
}

function withoutPrompts(s: ChatState, gone: (p: { id: string; expiresAt: number }) => boolean): ChatState {
  const approvals = s.approvals.filter((p) => !gone(p));
  const inquiries = s.inquiries.filter((p) => !gone(p));
  return approvals.length === s.approvals.length && inquiries.length === s.inquiries.length
    ? s
    : { ...s, approvals, inquiries };
}

function event(s: ChatState, name: string, p: Rec, now: number): ChatState {
  switch (name) {
    case "chat":
      return chat(s, p, now);
    case "agent":
    case "session.tool":
      return agent(s, p, now);
    case "session.message": {
      const m = rec(p.message);
      if (id(p.sessionKey) !== s.current || m.role !== "user") return s; // answers come as chat events
      const [message] = transcript([m], `m${num(p.messageSeq) ?? now}-`);
      return message ? withUser(s, message) : s;
    }
    case "exec.approval.requested":
    case "plugin.approval.requested": {
      const fresh = approval(p, name.startsWith("exec") ? "exec" : "plugin");
      return fresh
        ? { ...s, approvals: [...s.approvals.filter((x) => x.id !== fresh.id), fresh].slice(-limits.prompts) }
        : s;
    }
    case "question.requested": {
      const fresh = inquiry(p);
      return fresh
        ? { ...s, inquiries: [...s.inquiries.filter((x) => x.id !== fresh.id), fresh].slice(-limits.prompts) }
        : s;
    }
    case "exec.approval.resolved":
    case "plugin.approval.resolved":
    case "question.resolved":
      return withoutPrompts(s, (x) => x.id === p.id);
    default:
      return s;
  }
}

function chat(s: ChatState, p: Rec, now: number): ChatState {
  const run = id(p.runId);
  const key = id(p.sessionKey);
  if (!run || s.ended.includes(run)) return s;
  const over = p.state === "final" || p.state === "aborted" || p.state === "error";
  if (key !== s.current) {
    const busy = s.busy.filter((k) => k !== key);
    return { ...s, busy: over ? busy : [...busy, key].slice(-limits.sessions) };
  }
  switch (p.state) {
    case "status":
      return withRun(s, run, now, (r) => (r.text === "" ? { ...r, phase: str(p.phase) } : r));
    case "delta":
      return withRun(s, run, now, (r) => delta(r, p));
    case "final":
    case "aborted":
    case "error":
      return end(s, run, p, now);
    default:
      return s;
  }
}

function delta(r: Run, p: Rec): Run {
  const seq = num(p.seq) ?? r.chatSeq + 1;
  if (seq <= r.chatSeq) return r; // late, or twice
  // Where the whole text so far comes along it mends what a broken connection left out.
  const whole = plain(p.message);
  const text =
    whole !== "" ? whole : p.replace === true ? str(p.deltaText, limits.text) : r.text + str(p.deltaText, limits.text);
  return { ...r, chatSeq: seq, phase: "", text: str(text, limits.text), tools: placed(r.tools, r.text, text) };
}

function withRun(s: ChatState, run: string, now: number, f: (r: Run) => Run): ChatState {
  const known = s.runs.find((r) => r.id === run);
  const before = known ?? {
    id: run,
    phase: "",
    text: "",
    tools: [],
    startedAt: now,
    stopping: false,
    chatSeq: 0,
    actSeq: 0,
    heard: now,
  };
  const changed = f(before);
  if (changed === known) return s;
  const after = { ...changed, heard: now };
  return { ...s, runs: known ? s.runs.map((r) => (r === known ? after : r)) : [...s.runs, after].slice(-8) };
}

function end(s: ChatState, run: string, p: Rec, now: number): ChatState {
  const r = s.runs.find((x) => x.id === run);
  const text = plain(p.message) || r?.text || "";
  const tools = placed(r?.tools ?? [], r?.text ?? "", text).map((t): Tool =>
    t.state === "running" ? { ...t, state: "stopped", endedAt: now } : t,
  );
  const messages = [...s.messages];
  const seen = pictures(rec(p.message).content);
  if (text !== "" || tools.length > 0 || seen.pictures) {
    messages.push({
      id: `run-${run}`,
      role: "assistant",
      text,
      ...seen,
      tools,
      at: now,
      run,
      stopped: p.state === "aborted",
    });
  } else if (p.state === "aborted") {
    messages.push({
      id: `stop-${run}`,
      role: "note",
      text: "Stopped before there was an answer.",
      tools: [],
      at: now,
      run,
    });
  }
  if (p.state === "error") {
    messages.push({
      id: `error-${run}`,
      role: "note",
      text: str(p.errorMessage, 2_000) || "The agent could not answer.",
      tools: [],
      at: now,
      run,
    });
  }
  return {
    ...s,
    ...newest(s, messages),
    runs: s.runs.filter((x) => x.id !== run),
    ended: [...s.ended, run].slice(-200),
  };
}

function agent(s: ChatState, p: Rec, now: number): ChatState {
  const run = id(p.runId);
  const key = id(p.sessionKey);
  if (!run || (p.stream !== "tool" && p.stream !== "run_status") || s.ended.includes(run)) return s;
  if (key !== "" && key !== s.current) return s;
  if (key === "" && !s.runs.some((r) => r.id === run)) return s;
  if (p.stream === "run_status") {
    // Its phases come as chat events too; why it begins again is said here alone.
    const { phase, message } = rec(p.data);
    const why = phase === "retrying" ? str(message, 300).replace(/\.$/, "") : "";
    return why ? withRun(s, run, now, (r) => (r.text === "" ? { ...r, phase: why } : r)) : s;
  }
  const seq = num(p.seq) ?? 0;
  return withRun(s, run, now, (r) =>
    seq !== 0 && seq <= r.actSeq
      ? r
      : { ...r, phase: "", actSeq: Math.max(seq, r.actSeq), tools: used(r, rec(p.data), num(p.ts) ?? now) },
  );
}

/** used keeps the list of what tools a run used. */
function used({ text, tools: all }: Run, d: Rec, at: number): Tool[] {
  const call = id(d.toolCallId);
  if (!call) return all;
  const known = all.find((t) => t.id === call);
  const t: Tool = known ?? {
    id: call,
    name: str(d.name) || "tool",
    args: "",
    result: "",
    state: "running",
    after: text.length,
    startedAt: at,
    endedAt: undefined,
  };
  const changed = progress(t, d, at);
  return known ? all.map((x) => (x === known ? changed : x)) : [...all, changed].slice(-limits.tools);
}

function progress(t: Tool, d: Rec, at: number): Tool {
  switch (d.phase) {
    case "start":
      return { ...t, args: shown(d.args) };
    case "update":
      return t.state === "running" ? { ...t, result: str(shown(d.partialResult) || t.result, limits.detail) } : t;
    case "result":
      return {
        ...t,
        state: d.isError === true ? "failed" : "done",
        result: shown(d.result) || t.result,
        ...pictures(rec(d.result).content),
        endedAt: at,
      };
    default:
      return t;
  }
}

/** withUser adds what the user said, once. */
function withUser(s: ChatState, m: Message): ChatState {
  if (s.messages.some((x) => same(x, m))) return s;
  // An answer may have ended before its question was confirmed; the question goes first all the same.
  const answer = m.run === undefined ? -1 : s.messages.findIndex((x) => x.run === m.run);
  const messages = [...s.messages];
  messages.splice(answer < 0 ? messages.length : answer, 0, m);
  // After a gap it is not put, so it stays where it is seen until a history has it.
  return { ...s, ...newest(s, messages), outbox: s.later ? s.outbox : s.outbox.filter((i) => i.key !== m.run) };
}

/** newest bounds what has grown at its end. After a gap nothing is put: it would look as if nothing were missing. */
function newest(s: ChatState, messages: Message[]): Pick<ChatState, "messages" | "earlier"> {
  if (s.later) return s;
  const over = messages.length > limits.messages;
  return { messages: messages.slice(-limits.messages), earlier: over ? (s.earlier ?? limits.messages) : s.earlier };
}

/** history takes a page of what the machine has: the newest, or an earlier one. */
function history(s: ChatState, p: Rec, offset: number, asked: number): ChatState {
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
