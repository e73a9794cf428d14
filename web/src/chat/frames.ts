// The parts of the OpenClaw protocol's frames that the chat reads. All data comes from the machine, which is not
// trusted: unknown data is ignored, and the rest is kept as text or numbers of limited size.

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
  src: string; // a data: URL: nothing is fetched
  alt: string;
}

export interface Tool {
  id: string;
  name: string;
  args: string;
  result: string;
  pictures?: Picture[]; // of the result
  state: "running" | "done" | "failed" | "stopped";
  after: number; // characters of the answer before it
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
  run: string | undefined; // the idempotency key that started it
  stopped?: boolean; // stopped on request
  local?: boolean; // accepted by the machine, not yet in its history
  orphan?: boolean; // the result of a tool whose call is on an earlier page
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
  over?: boolean; // the agent restarted before an answer
}

export interface Question {
  id: string;
  header: string;
  text: string;
  options: { label: string; description: string }[];
  many: boolean;
  other: boolean; // the user may answer in their own words
  secret: boolean;
}

export interface Inquiry {
  id: string;
  session: string | undefined;
  questions: Question[];
  expiresAt: number;
  over?: boolean; // the agent restarted before an answer
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

/** str returns v if it is a text, cut to most characters, else "". */
export function str(v: unknown, most = limits.name): string {
  if (typeof v !== "string") return "";
  return v.length > most ? `${v.slice(0, most)}…` : v;
}

/** id returns v if it can be sent back exactly, else "". */
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
    message: str(e.message, 500) || "The agent refused without giving a reason.",
    retryable: e.retryable === true,
    retryAfterMs: num(e.retryAfterMs),
  };
}

/**
 * picture returns an image sent as base64. An image elsewhere is not loaded, because its server would learn of the
 * reader.
 */
function picture(part: Rec): Picture | undefined {
  const source = rec(part.source);
  const kind = str(part.mimeType ?? source.media_type);
  const data = part.data ?? source.data;
  if (part.type !== "image" || typeof data !== "string" || data.length > limits.picture) return undefined;
  if (!/^image\/(png|jpeg|gif|webp)$/.test(kind) || !/^[A-Za-z0-9+/]+={0,2}$/.test(data)) return undefined;
  return { src: `data:${kind};base64,${data}`, alt: str(part.alt) };
}

/** pictures returns the images in the content of a message or a tool result. */
export function pictures(v: unknown): { pictures?: Picture[] } {
  const found = list(v, limits.tools)
    .flatMap((part) => picture(rec(part)) ?? [])
    .slice(0, limits.pictures);
  return found.length > 0 ? { pictures: found } : {};
}

/** plain returns the text in the content of a message or a tool result. */
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

/** shown returns any value as readable text: a text unchanged, the rest as JSON. */
export function shown(v: unknown): string {
  if (v === undefined || v === null) return "";
  const text = plain(v, limits.detail);
  if (text !== "" || typeof v === "string" || pictures(Array.isArray(v) ? v : rec(v).content).pictures) return text;
  return str(JSON.stringify(v, null, 2), limits.detail);
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
