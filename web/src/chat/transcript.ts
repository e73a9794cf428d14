// The messages of a chat's history.
import { refusalIn } from "./denial";
import {
  files,
  id,
  limits,
  list,
  num,
  pictures,
  plain,
  rec,
  shown,
  str,
  type InFlight,
  type Message,
  type Rec,
  type Tool,
} from "./frames";

const metadata = "__openclaw"; // where the gateway stores what it knows about a message

/** runOf returns the idempotency key that started a message's run; transcripts append the speaker to it. */
function runOf(m: Rec): string | undefined {
  const key = id(m.idempotencyKey) || id(rec(m[metadata]).idempotencyKey);
  return key.replace(/:(user|tools|assistant.*|terminal-error)$/, "") || undefined;
}

/** failureIn returns why a run failed, if that is what the gateway keeps in this message. */
function failureIn(m: Rec): string | undefined {
  if (m.role === "custom" && m.customType === "run-failed-before-reply")
    return plain(m.content).replace(/^This turn ended before a reply: /, "");
  return m.role === "assistant" && m.stopReason === "error" && id(m.idempotencyKey).endsWith(":terminal-error")
    ? plain(m.content)
    : undefined;
}

const isCall = (type: unknown) =>
  type === "toolCall" || type === "tool_use" || type === "toolUse" || type === "tool_call";

/** transcript makes messages of what chat.history returns. Results of tools are added to their calls. */
export function transcript(raw: unknown, prefix = ""): Message[] {
  const out: Message[] = [];
  const taken = new Set<string>();
  let asked: string | undefined; // a message belongs to the question before it
  list(raw, limits.messages).forEach((v, i) => {
    const m = rec(v);
    const entry = id(rec(m[metadata]).id);
    const base = {
      id: entry === "" || taken.has(entry) ? `${prefix}${i}` : entry,
      ...(entry && { entry }),
      at: num(m.timestamp),
      run: runOf(m) ?? asked,
    };
    taken.add(entry);
    const failure = failureIn(m);
    if (failure !== undefined) {
      const run = id(rec(m[metadata]).runId) || base.run;
      out.push({ ...base, id: `error-${base.id}`, role: "note", text: failure, tools: [], run });
    } else if (m.role === "user") {
      asked = runOf(m);
      const came = files(rec(m[metadata]).media);
      out.push({
        ...base,
        role: "user",
        text: plain(m.content),
        ...pictures(m.content, entry),
        ...came,
        tools: [],
        run: asked,
      });
    } else if (m.role === "assistant") {
      const parts = list(m.content, limits.tools);
      const tools = parts.flatMap((c, n) =>
        isCall(rec(c).type) ? [{ ...callOf(rec(c)), after: plain(parts.slice(0, n)).length }] : [],
      );
      out.push({
        ...base,
        role: "assistant",
        text: plain(m.content),
        ...pictures(m.content, entry),
        tools,
        ...(rec(m.openclawAbort).aborted === true && { stopped: true }),
        ...(rec(m.openclawAbort).origin === "restart" && { interrupted: true }),
      });
    } else if (m.role === "toolResult" || m.role === "tool") {
      const call = id(m.toolCallId) || id(m.tool_call_id);
      const tool = {
        ...callOf({ id: call, name: m.toolName }),
        result: shown(m.content),
        ...pictures(m.content, call),
        state: m.isError === true ? ("failed" as const) : ("done" as const),
      };
      if (call && !settle(out, tool)) {
        const alone = { ...tool, state: ended(tool, tool.state, tool.result) };
        out.push({ ...base, role: "assistant", text: "", tools: [alone], orphan: true });
      }
    }
  });
  return out.filter((m) => m.text !== "" || m.tools.length > 0 || m.pictures || m.files);
}

const ended = ({ name, args }: Tool, state: Tool["state"], result: string) =>
  state === "failed" ? (refusalIn(name, result, args) ?? state) : state;

/** same reports whether two messages are one: by the machine's id, or by the key that started them. */
export const same = (a: Message, b: Message): boolean =>
  a.role === b.role &&
  ((a.entry !== undefined && a.entry === b.entry) ||
    (a.run !== undefined && a.run === b.run && (a.role === "user" || !a.entry || !b.entry)));

/** settle adds a tool's result to the latest call that it answers, and reports whether there is one. */
function settle(messages: Message[], { id: call, result, pictures: seen, state }: Tool): boolean {
  const at = messages.findLastIndex((m) => m.tools.some((t) => t.id === call));
  const owner = messages[at];
  if (owner)
    messages[at] = {
      ...owner,
      tools: owner.tools.map((t) =>
        t.id === call ? { ...t, result, ...(seen && { pictures: seen }), state: ended(t, state, result) } : t,
      ),
    };
  return owner !== undefined;
}

/** joined puts an earlier page before the present messages, up to where the two overlap. */
export function joined(page: Message[], there: Message[]): Message[] {
  const overlap = page.findIndex((m) => there.some((x) => same(x, m)));
  const fresh = overlap < 0 ? [...page] : page.slice(0, overlap);
  const rest = there.filter((m) => !m.orphan || !settle(fresh, m.tools[0]!));
  return [...fresh, ...rest];
}

const callOf = (c: Rec): Tool => ({
  id: id(c.id),
  name: str(c.name) || "tool",
  args: shown(c.arguments ?? c.input),
  result: "",
  state: "stopped",
  after: 0,
  startedAt: undefined,
  endedAt: undefined,
});

/** placed keeps tools at their place in a text while the text before them is unchanged; otherwise they go first. */
export const placed = (tools: Tool[], before: string, after: string): Tool[] =>
  tools.map((t) => (after.startsWith(before.slice(0, t.after)) ? t : { ...t, after: 0 }));

/** inOrder returns an answer's text and tools in order. */
export function inOrder(text: string, tools: Tool[]): { text: string; tools: Tool[] }[] {
  const places = [...new Set(tools.map((t) => t.after))].toSorted((a, b) => a - b);
  const parts = places.map((at, n) => ({
    text: text.slice(places[n - 1] ?? 0, at),
    tools: tools.filter((t) => t.after === at),
  }));
  return [...parts, { text: text.slice(places.at(-1) ?? 0), tools: [] }];
}

export function inFlight(v: unknown): InFlight | undefined {
  const r = rec(v);
  return id(r.runId) ? { run: id(r.runId), text: str(r.text, limits.text), startedAt: num(r.startedAt) } : undefined;
}
