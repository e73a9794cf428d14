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

/** Kind is what is said of a file. */
export interface Kind {
  name: string;
  type: string; // MIME type; "": unknown
  bytes: number;
}

export interface Picture {
  src: string; // a data: URL: nothing is fetched; "": the agent left it out
  alt: string;
  left?: Left;
}

/** Left is where a picture is that the agent left out of an event or of the history. */
export interface Left {
  of: string; // id of the tool's use, or of the message, that has it
  nth: number; // of the pictures there
  artifact: string; // the name under which the agent hands it out; "": only the history has it
  bytes: number | undefined;
  file: boolean; // a file on the desktop, which the agent hands out over HTTP only
}

export interface Tool {
  id: string;
  name: string;
  args: string;
  result: string;
  pictures?: Picture[]; // of the result
  state: "running" | "done" | "failed" | "stopped" | "denied" | "expired" | "held"; // see Refusal in denial.ts
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
  files?: Kind[]; // that came with a message of the user
  tools: Tool[];
  at: number | undefined;
  run: string | undefined; // the idempotency key that started it
  stopped?: boolean; // it ended before it was complete
  interrupted?: boolean; // because the agent restarted, not on request
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
  /** What "allow-always" covers; undefined: nothing is known of it. */
  always?: "command" | "plugin";
  parts: number; // commands in the command
  call: string; // id of the tool's use
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
  picture: 6 << 20, // characters
  pictures: 8,
  files: 100,
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

const pictureType = /^image\/(png|jpeg|gif|webp)$/;

/**
 * picture returns an image sent as base64, or where the agent has it. An image elsewhere is not loaded, because its
 * server would learn of the reader.
 */
function picture(part: Rec, of = "", nth = 0): Picture | undefined {
  const source = rec(part.source);
  const data = part.data ?? source.data;
  if (part.type !== "image") return undefined;
  const alt = str(part.alt);
  const src = embedded(part.mimeType ?? source.media_type, data);
  if (src !== "") return { src, alt };
  const artifact = id(part.artifactId);
  if (data !== undefined || (part.omitted !== true && artifact === "")) return undefined;
  return {
    src,
    alt,
    left: { of, nth, artifact, bytes: num(part.bytes) ?? num(part.sizeBytes), file: id(part.url) !== "" },
  };
}

/** embedded returns the data: URL of a picture in base64; "": it is none, or too large. */
export function embedded(kind: unknown, data: unknown): string {
  const type = str(kind);
  if (typeof data !== "string" || data === "" || data.length > limits.picture) return "";
  return pictureType.test(type) && /^[A-Za-z0-9+/]+={0,2}$/.test(data) ? `data:${type};base64,${data}` : "";
}

/** pictures returns the images in the content of a message or a tool result. of is the id by which the history has it. */
export function pictures(v: unknown, of = ""): { pictures?: Picture[] } {
  let nth = 0;
  const found = list(v, limits.tools)
    .flatMap((part) => (rec(part).type === "image" ? (picture(rec(part), of, nth++) ?? []) : []))
    .slice(0, limits.pictures);
  return found.length > 0 ? { pictures: found } : {};
}

/** files returns what is said of the files that came with a message. */
export function files(media: unknown): { files?: Kind[] } {
  const found = list(media, limits.files).map((v, n) => {
    const f = rec(v);
    const type = str(f.contentType);
    const name = str(f.fileName) || (type.startsWith("image/") ? "Picture" : `File ${n + 1}`);
    return { name, type, bytes: num(f.sizeBytes) ?? 0 };
  });
  return found.length > 0 ? { files: found } : {};
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
