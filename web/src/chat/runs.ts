// How the events of an answer under way change a chat.
import { refusalIn, refusalOf } from "./denial";
import { id, limits, num, pictures, plain, rec, shown, str, type Rec, type Tool } from "./frames";
import { newest } from "./history";
import type { ChatState, Run } from "./state";
import { placed } from "./transcript";

export function chat(s: ChatState, p: Rec, now: number): ChatState {
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
  if (seq <= r.chatSeq) return r; // late or repeated
  // If the whole text so far is included, it restores parts lost with a broken connection.
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
      text: "Stopped before the agent answered.",
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

const streams = new Set<unknown>(["tool", "run_status", "approval"]);

export function agent(s: ChatState, p: Rec, now: number): ChatState {
  const run = id(p.runId);
  const key = id(p.sessionKey);
  if (!run || !streams.has(p.stream) || s.ended.includes(run)) return s;
  if (key !== "" && key !== s.current) return s;
  if (key === "" && !s.runs.some((r) => r.id === run)) return s;
  if (p.stream === "run_status") {
    // Its phases are chat events too; only this event has the reason for a retry.
    const { phase, message } = rec(p.data);
    const why = phase === "retrying" ? str(message, 300).replace(/\.$/, "") : "";
    return why ? withRun(s, run, now, (r) => (r.text === "" ? { ...r, phase: why } : r)) : s;
  }
  if (p.stream === "approval") {
    const { phase, status, toolCallId } = rec(p.data);
    return phase === "resolved" && s.runs.some((r) => r.id === run) ? refused(s, id(toolCallId), status) : s;
  }
  const seq = num(p.seq) ?? 0;
  return withRun(s, run, now, (r) =>
    seq !== 0 && seq <= r.actSeq
      ? r
      : { ...r, phase: "", actSeq: Math.max(seq, r.actSeq), tools: used(r, rec(p.data), num(p.ts) ?? now) },
  );
}

/** refused marks a tool's use that a person did not allow. Its result may come before or after. */
export function refused(s: ChatState, call: string, status: unknown): ChatState {
  const state = refusalOf(status);
  const open = (t: Tool) => t.id === call && (t.state === "running" || t.state === "failed");
  if (!state || !s.runs.some((r) => r.tools.some(open))) return s;
  return {
    ...s,
    runs: s.runs.map((r) => ({ ...r, tools: r.tools.map((t) => (open(t) ? { ...t, state } : t)) })),
  };
}

/** used updates the list of tools that a run used. */
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
    case "result": {
      const result = shown(d.result) || t.result;
      return {
        ...t,
        state: d.isError !== true ? "done" : (refusalIn(t.name, result, t.args) ?? refusalOf(t.state) ?? "failed"),
        result,
        ...pictures(rec(d.result).content, t.id),
        endedAt: at,
      };
    }
    default:
      return t;
  }
}
