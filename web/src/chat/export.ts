// A chat as a Markdown file.
import { rec, type Message, type Tool } from "./frames";
import { nextPage } from "./history";
import { inFlight, inOrder, joined, transcript } from "./transcript";
import { toolStates } from "./words";
import { dateOf } from "./when";

const mostPages = 100; // of 100 messages each

export interface Exported {
  messages: Message[];
  cut: boolean; // there are earlier messages
  answering: boolean; // an answer was under way
}

/** collect loads the messages of a session, and reports how many there are so far. */
export async function collect(
  ask: (offset: number) => Promise<unknown>,
  progress: (messages: number) => void,
  signal: AbortSignal,
  most = mostPages,
): Promise<Exported> {
  let messages: Message[] = [];
  let answering = false;
  let offset: number | undefined = 0;
  for (let pages = 0; pages < most && offset !== undefined; pages++) {
    const payload: unknown = await ask(offset);
    signal.throwIfAborted();
    if (offset === 0) answering = inFlight(rec(payload).inFlightRun) !== undefined;
    // New messages shift the pages, so one may repeat the start of the page after it.
    const loaded = transcript(rec(payload).messages, `h${offset}-`);
    messages = [...joined(loaded, messages.slice(0, 2 * loaded.length)), ...messages.slice(2 * loaded.length)];
    offset = nextPage(payload, offset);
    progress(messages.length);
  }
  return { messages, cut: offset !== undefined, answering };
}

const two = (n: number) => String(n).padStart(2, "0");
const day = (d: Date) => `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
const stamp = (at: number | undefined) => {
  const d = dateOf(at);
  return d ? ` · ${day(d)} ${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}` : "";
};

const named = (s: string, otherwise: string) =>
  s
    .replaceAll(/[^\p{L}\p{N} ._-]+/gu, "-")
    .replace(/^[\s.-]+/, "")
    .slice(0, 60)
    .trim() || otherwise;

/** fileName returns a name that every system takes. */
export const fileName = (desktop: string, session: string, now: Date): string =>
  `${named(desktop, "desktop")} - ${named(session, "chat")} - ${day(now)}.md`;

/** fenced returns a text as a block of code, whatever it contains. */
function fenced(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map((m) => m[0].length));
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${text}\n${fence}`;
}

const line = (s: string) => s.replaceAll(/\s+/g, " ").trim();
const pictures = (all: Message["pictures"]) =>
  (all ?? []).map((p) => `*[Picture: ${line(p.alt) || "no description"}]*`);

const tool = (t: Tool): string[] => [
  `**Tool \`${line(t.name).replaceAll("`", "'")}\`: ${toolStates[t.state]}**`,
  ...(t.args ? ["Input:", fenced(t.args)] : []),
  ...(t.result ? ["Result:", fenced(t.result)] : []),
  ...pictures(t.pictures),
];

function section(m: Message): string[] {
  const who = m.role === "user" ? "You" : m.role === "note" ? "Error" : "The agent";
  return [
    `## ${who}${stamp(m.at)}`,
    ...inOrder(m.text, m.tools).flatMap((p) => [...(p.text.trim() ? [p.text.trim()] : []), ...p.tools.flatMap(tool)]),
    ...pictures(m.pictures),
    ...(m.stopped
      ? [m.interrupted ? "*Interrupted: this answer is not complete.*" : "*This answer was stopped.*"]
      : []),
  ];
}

/** markdownOf returns the file's text. */
export function markdownOf(
  { messages, cut, answering }: Exported,
  desktop: string,
  session: string,
  now: Date,
): string {
  return [
    `# ${line(session)}`,
    `Desktop: ${line(desktop)}. Exported:${stamp(now.getTime()).replace(" ·", "")}. Messages: ${messages.length}.`,
    ...(cut ? ["*Earlier messages are left out: an export has about 10,000 messages at most.*"] : []),
    ...messages.flatMap(section),
    ...(answering ? ["*The agent was still answering. The rest of the answer is not in this file.*"] : []),
  ]
    .join("\n\n")
    .concat("\n");
}
