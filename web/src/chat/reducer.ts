// How frames, answers and the outbox change the state of a chat. Pure: no clock, no connection.
import { approval, inquiry, type Asked } from "./asked";
import { acts, control, type Acting } from "./control";
import { id, limits, list, num, rec, sessions, type Rec } from "./frames";
import { history, withUser } from "./history";
import type { Item } from "./outbox";
import { agent, chat, refused } from "./runs";
import type { ChatState } from "./state";
import { transcript } from "./transcript";

export type Action =
  | { type: "connected"; main: string }
  | { type: "event"; event: string; payload: Rec; now: number }
  | { type: "sessions"; payload: unknown }
  | { type: "open"; key: string; outbox: Item[] }
  | { type: "loading" }
  | { type: "history"; key: string; payload: unknown; offset: number; asked: number } // asked: when the request was sent
  | { type: "historyFailed"; key: string }
  | Asked
  | { type: "answered"; id: string }
  | { type: "expired"; now: number }
  | { type: "outbox"; key: string; items: Item[] }
  | { type: "taken"; key: string; item: Item }
  | { type: "stopping"; run: string }
  | { type: "control"; payload: unknown; now: number };

export function reduce(s: ChatState, a: Action): ChatState {
  switch (a.type) {
    case "connected":
      // Runs that ended while disconnected were not reported. The machine reports who holds its mouse after this.
      return { ...s, main: a.main, busy: [], acting: [], control: undefined };
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
      return { ...s, approvals: [...s.approvals.filter((x) => x.kind !== a.kind || x.over), ...fresh] };
    }
    case "inquiries": {
      const fresh = list(rec(a.payload).questions, limits.prompts).flatMap((v) => inquiry(v) ?? []);
      return { ...s, inquiries: [...s.inquiries.filter((x) => x.over), ...fresh] };
    }
    case "answered":
      return withoutPrompts(s, (p) => p.id === a.id);
    case "expired":
      return quiet(
        withoutPrompts(s, (p) => p.expiresAt <= a.now),
        (r) => r.until <= a.now,
      );
    case "control":
      return { ...s, control: control(a.payload, s.control, a.now) };
    case "outbox":
      return a.key === s.current ? { ...s, outbox: a.items } : s;
    case "taken":
      return a.key === s.current
        ? withUser(s, {
            id: a.item.key,
            role: "user",
            text: a.item.text,
            ...(a.item.files && { files: a.item.files }),
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

function quiet(s: ChatState, gone: (r: Acting) => boolean): ChatState {
  return s.acting.some(gone) ? { ...s, acting: s.acting.filter((r) => !gone(r)) } : s;
}

function withoutPrompts(s: ChatState, gone: (p: { id: string; expiresAt: number }) => boolean): ChatState {
  const approvals = s.approvals.filter((p) => !gone(p));
  const inquiries = s.inquiries.filter((p) => !gone(p));
  return approvals.length === s.approvals.length && inquiries.length === s.inquiries.length
    ? s
    : { ...s, approvals, inquiries };
}

/** cancelled keeps a request that the agent gave up by restarting, until the user has seen it. */
function cancelled(s: ChatState, prompt: unknown): ChatState {
  const mark = <P extends { id: string; over?: boolean }>(all: P[]) =>
    all.some((p) => p.id === prompt && !p.over) ? all.map((p) => (p.id === prompt ? { ...p, over: true } : p)) : all;
  const approvals = mark(s.approvals);
  const inquiries = mark(s.inquiries);
  return approvals === s.approvals && inquiries === s.inquiries ? s : { ...s, approvals, inquiries };
}

function event(s: ChatState, name: string, p: Rec, now: number): ChatState {
  switch (name) {
    case "chat": {
      const over = p.state === "final" || p.state === "aborted" || p.state === "error";
      return chat(over ? quiet(s, (r) => r.run === p.runId) : s, p, now);
    }
    case "agent": {
      const acting = acts(s.acting, p, now);
      return agent(acting === s.acting ? s : { ...s, acting }, p, now);
    }
    case "session.tool":
      return agent(s, p, now);
    case "cloudbot.control":
      return { ...s, control: control(p, s.control, now) };
    case "cloudbot.clipboard": // a program may copy all the time
      return s.copied && now - s.copied.at < 5_000 ? s : { ...s, copied: { bytes: num(p.bytes) ?? 0, at: now } };
    case "session.message": {
      const m = rec(p.message);
      if (id(p.sessionKey) !== s.current || m.role !== "user") return s; // answers arrive as chat events
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
      return p.reason === "gateway-restart"
        ? cancelled(s, p.id)
        : withoutPrompts(
            refused(s, s.approvals.find((a) => a.id === p.id)?.call ?? "", p.status),
            (x) => x.id === p.id,
          );
    default:
      return s;
  }
}
