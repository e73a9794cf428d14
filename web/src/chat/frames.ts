// What is read of the frames of the OpenClaw protocol. Everything comes from the machine, which is not
// trusted: what is unknown is ignored, what is kept is text or a number, and of bounded size.

export type Rec = Record<string, unknown>;

export interface Failure {
  code: string;
  message: string;
  retryable: boolean;
  retryAfterMs: number | undefined;
}

export type Frame =
  | { type: "event"; event: string; payload: Rec }
  | { type: "res"; id: string; ok: boolean; payload: unknown; error: Failure };

export interface Picture {
  src: string; // a data: URL: nothing is fetched for it
  alt: string;
}

export interface Tool {
  id: string;
  name: string;
  args: string;
  result: string;
  pictures?: Picture[]; // of the result
  state: "running" | "done" | "failed" | "stopped";
  after: number; // how many characters of the answer were said before it
  startedAt: number | undefined;
  endedAt: number | undefined;
}

export interface Message {
  id: string;
  entry?: string; // its id in the machine's transcript
  role: "user" | "assistant" | "note"; // note: why a run failed
  text: string;
  pictures?: Picture[];
  tools: Tool[];
  at: number | undefined;
  run: string | undefined; // the idempotency key that began it
  stopped?: boolean; // cut short on request
  local?: boolean; // taken by the machine, not seen in its history yet
  orphan?: boolean; // the result of a tool whose call stands on an earlier page
}

export interface Session {
  key: string;
  title: string;
  updatedAt: number;
  main: boolean;
}

export type Decision = "allow-once" | "allow-always" | "deny";

export interface Approval {
  id: string;
  kind: "exec" | "plugin";
  session: string | undefined;
  title: string;
  command: string;
  detail: string;
  decisions: Decision[];
  expiresAt: number;
}

export interface Question {
  id: string;
  header: string;
  text: string;
  options: { label: string; description: string }[];
  many: boolean;
  other: boolean; // an answer in own words may be given
  secret: boolean;
}

export interface Inquiry {
  id: string;
  session: string | undefined;
  questions: Question[];
  expiresAt: number;
}

export interface InFlight {
  run: string;
  text: string;
  startedAt: number | undefined;
}

export const limits = {
  text: 200_000,
  detail: 8_000,
  name: 200,
  messages: 1_000,
  tools: 200,
  sessions: 500,
  prompts: 50,
  picture: 6 << 20,
  pictures: 8,
};

export const rec = (v: unknown): Rec => (typeof v === "object" && v !== null && !Array.isArray(v) ? (v as Rec) : {});
export const list = (v: unknown, most: number): unknown[] => (Array.isArray(v) ? v.slice(0, most) : []);
export const num = (v: unknown): number | undefined => (typeof v === "number" && Number.isFinite(v) ? v : undefined);

/** str is v where it is text, cut to most characters. */
export function str(v: unknown, most = limits.name): string {
  if (typeof v !== "string") return "";
  return v.length > most ? `${v.slice(0, most)}…` : v;
}

/** id is for what has to be sent back exactly: rather nothing than a piece. */
export const id = (v: unknown): string => (typeof v === "string" && v.length <= 512 ? v : "");

export function parseFrame(data: unknown): Frame | undefined {
  if (typeof data !== "string") return undefined;
  let frame: Rec;
  try {
    frame = rec(JSON.parse(data));
  } catch {
    return undefined;
  }
  if (frame.type === "event" && id(frame.event))
    return { type: "event", event: id(frame.event), payload: rec(frame.payload) };
  if (frame.type === "res" && id(frame.id)) {
    return {
      type: "res",
      id: id(frame.id),
      ok: frame.ok === true,
      payload: frame.payload,
      error: failure(frame.error),
    };
  }
  return undefined;
}

function failure(v: unknown): Failure {
  const e = rec(v);
  return {
    code: str(e.code) || "UNKNOWN",
    message: str(e.message, 500) || "The agent refused without saying why.",
    retryable: e.retryable === true,
    retryAfterMs: num(e.retryAfterMs),
  };
}

/** picture is an image that came along as base64; one that stands elsewhere is not loaded, as that would tell who looks. */
function picture(part: Rec): Picture | undefined {
  const source = rec(part.source);
  const kind = str(part.mimeType ?? source.media_type);
  const data = part.data ?? source.data;
  if (part.type !== "image" || typeof data !== "string" || data.length > limits.picture) return undefined;
  if (!/^image\/(png|jpeg|gif|webp)$/.test(kind) || !/^[A-Za-z0-9+/]+={0,2}$/.test(data)) return undefined;
  return { src: `data:${kind};base64,${data}`, alt: str(part.alt) };
}

/** pictures are those of a message's or a tool result's content. */
export function pictures(v: unknown): { pictures?: Picture[] } {
  const found = list(v, limits.tools)
    .flatMap((part) => picture(rec(part)) ?? [])
    .slice(0, limits.pictures);
  return found.length > 0 ? { pictures: found } : {};
}

/** plain is the text of a message's or a tool result's content. */
export function plain(v: unknown, most = limits.text): string {
  if (typeof v === "string") return str(v, most);
  if (Array.isArray(v)) {
    const parts = v.map((part: unknown) => {
      const p = rec(part);
      if (typeof p.text === "string" && p.type !== "thinking") return p.text;
      return p.type === "image" && !picture(p) ? `[image${typeof p.alt === "string" ? `: ${p.alt}` : ""}]` : "";
    });
    return str(parts.filter(Boolean).join("\n\n"), most);
  }
  const r = rec(v);
  return "content" in r ? plain(r.content, most) : "";
}

/** shown is any value as people may read it: text as it is, the rest as JSON. */
export function shown(v: unknown): string {
  if (v === undefined || v === null) return "";
  const text = plain(v, limits.detail);
  if (text !== "" || typeof v === "string" || pictures(Array.isArray(v) ? v : rec(v).content).pictures) return text;
  return str(JSON.stringify(v, null, 2), limits.detail);
}

const metadata = "__openclaw"; // where the gateway keeps what it knows of a message

/** runOf is the idempotency key that began what a message belongs to: transcripts append who spoke. */
function runOf(m: Rec): string | undefined {
  const key = id(m.idempotencyKey) || id(rec(m[metadata]).idempotencyKey);
  return key.replace(/:(user|tools|assistant.*)$/, "") || undefined;
}

const isCall = (type: unknown) =>
  type === "toolCall" || type === "tool_use" || type === "toolUse" || type === "tool_call";

/** transcript makes messages of what chat.history returns. Results of tools go to their calls. */
export function transcript(raw: unknown, prefix = ""): Message[] {
  const out: Message[] = [];
  const taken = new Set<string>();
  let asked: string | undefined; // what is said belongs to what was asked before it
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
    if (m.role === "user") {
      asked = runOf(m);
      out.push({ ...base, role: "user", text: plain(m.content), ...pictures(m.content), tools: [], run: asked });
    } else if (m.role === "assistant") {
      const parts = list(m.content, limits.tools);
      const tools = parts.flatMap((c, n) =>
        isCall(rec(c).type) ? [{ ...callOf(rec(c)), after: plain(parts.slice(0, n)).length }] : [],
      );
      out.push({
        ...base,
        role: "assistant",
        text: plain(m.content),
        ...pictures(m.content),
        tools,
        ...(rec(m.openclawAbort).aborted === true && { stopped: true }),
      });
    } else if (m.role === "toolResult" || m.role === "tool") {
      const call = id(m.toolCallId) || id(m.tool_call_id);
      const tool = {
        ...callOf({ id: call, name: m.toolName }),
        result: shown(m.content),
        ...pictures(m.content),
        state: m.isError === true ? ("failed" as const) : ("done" as const),
      };
      if (call && !settle(out, tool)) out.push({ ...base, role: "assistant", text: "", tools: [tool], orphan: true });
    }
  });
  return out.filter((m) => m.text !== "" || m.tools.length > 0 || m.pictures);
}

/** same tells whether two are one message: by the machine's id, or else by what began them. */
export const same = (a: Message, b: Message): boolean =>
  a.role === b.role &&
  ((a.entry !== undefined && a.entry === b.entry) ||
    (a.run !== undefined && a.run === b.run && (a.role === "user" || !a.entry || !b.entry)));

/** settle gives a tool's result to the latest call that it answers, and tells whether there is one. */
function settle(messages: Message[], { id: call, result, pictures: seen, state }: Tool): boolean {
  const at = messages.findLastIndex((m) => m.tools.some((t) => t.id === call));
  const owner = messages[at];
  if (owner)
    messages[at] = {
      ...owner,
      tools: owner.tools.map((t) => (t.id === call ? { ...t, result, ...(seen && { pictures: seen }), state } : t)),
    };
  return owner !== undefined;
}

/** joined puts an earlier page before what is there, up to where the two overlap. */
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

/** placed keeps tools where they began in a text, as long as it still begins as it did; else they go first. */
export const placed = (tools: Tool[], before: string, after: string): Tool[] =>
  tools.map((t) => (after.startsWith(before.slice(0, t.after)) ? t : { ...t, after: 0 }));

/** inOrder is an answer's text and tools as they came. */
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

export function sessions(payload: unknown, main: string): Session[] {
  return list(rec(payload).sessions, limits.sessions).flatMap((v) => {
    const s = rec(v);
    const key = id(s.key);
    if (!key || s.archived === true) return [];
    const title = str(s.label) || str(s.displayName) || str(s.derivedTitle);
    return [
      {
        key,
        title: title || (key === main ? "Main" : "New chat"),
        updatedAt: num(s.updatedAt) ?? 0,
        main: key === main,
      },
    ];
  });
}

/** visible spells out what would make text look like another one: it is to be judged by its looks. */
const visible = (text: string) =>
  text.replaceAll(/[\p{Cf}\u2028\u2029]|(?![\n\t])\p{Cc}/gu, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);

const decisions: Decision[] = ["allow-once", "allow-always", "deny"];

export function approval(v: unknown, kind: "exec" | "plugin"): Approval | undefined {
  const a = rec(v);
  const r = rec(a.request);
  if (!id(a.id)) return undefined;
  const unavailable = [...list(r.unavailableDecisions, 10), ...(r.ask === "always" ? ["allow-always"] : [])];
  const offered = list(r.allowedDecisions, 10);
  const detail = [
    str(r.warningText, 500),
    str(r.description, 600),
    str(r.detail, limits.detail),
    r.cwd ? `in ${str(r.cwd)}` : "",
    r.host ? `on ${str(r.host)}` : "",
  ];
  return {
    id: id(a.id),
    kind,
    session: id(r.sessionKey) || undefined,
    title: str(r.title) || (kind === "exec" ? "May this command run?" : "May this be done?"),
    command: visible(
      str(r.command, limits.text) ||
        str(
          list(r.commandArgv, 1_000)
            .map((x) => str(x, limits.text))
            .join(" "),
          limits.text,
        ),
    ),
    detail: detail.filter(Boolean).join("\n"),
    decisions: decisions.filter(
      (d) => d === "deny" || (!unavailable.includes(d) && (offered.length === 0 || offered.includes(d))),
    ),
    expiresAt: num(a.expiresAtMs) ?? Infinity,
  };
}

export function inquiry(v: unknown): Inquiry | undefined {
  const r = rec(v);
  const questions = list(r.questions, 10).flatMap((q) => question(rec(q)));
  if (!id(r.id) || questions.length === 0 || (r.status !== undefined && r.status !== "pending")) return undefined;
  return { id: id(r.id), session: id(r.sessionKey) || undefined, questions, expiresAt: num(r.expiresAtMs) ?? Infinity };
}

function question(q: Rec): Question[] {
  if (!id(q.questionId) || !str(q.question)) return [];
  const options = list(q.options, 20)
    .map(rec)
    .flatMap((o) => (id(o.label) ? [{ label: id(o.label), description: str(o.description, 500) }] : []));
  return [
    {
      id: id(q.questionId),
      header: str(q.header),
      text: str(q.question, 2_000),
      options,
      many: q.multiSelect === true,
      other: q.isOther === true || options.length === 0,
      secret: q.isSecret === true,
    },
  ];
}
