// What a machine reports about itself, as sentences. The machine is not trusted: each value is checked and bounded.
import { duration } from "@/ui/time";

export type Fact = { name: string; value: string };
export type Problem = { what: string; next: string };
export type Summary = { facts: Fact[]; problems: Problem[] };

type Fields = Record<string, unknown>;

const fields = (v: unknown): Fields => (typeof v === "object" && v !== null && !Array.isArray(v) ? (v as Fields) : {});
const number = (v: unknown, most: number): number | undefined =>
  typeof v === "number" && Number.isFinite(v) && v >= 0 && v <= most ? v : undefined;

const longest = 120; // characters of a value

/** Returns a short text of the machine's in one line; undefined: it reports none. */
function word(v: unknown): string | undefined {
  if (typeof v !== "string") return undefined;
  const text = v
    .slice(0, 4 * longest)
    .replace(/[\p{Cc}\p{Cf}\s]+/gu, " ")
    .trim();
  return text === "" ? undefined : text.length > longest ? `${text.slice(0, longest)}…` : text;
}

const unknown = "Not reported";
const mostBytes = 2 ** 60;
const bytes = (v: unknown) => number(v, mostBytes);

/** Returns bytes in GB, with one decimal below 10. */
function gb(n: number): string {
  const value = n / 2 ** 30;
  return value < 10 ? String(Math.round(value * 10) / 10) : String(Math.round(value));
}

/** Returns the parsed report; undefined: it is not the JSON object that a guest sends. */
export function parsed(text: string): Fields | undefined {
  try {
    const v = JSON.parse(text) as unknown;
    return typeof v === "object" && v !== null && !Array.isArray(v) ? (v as Fields) : undefined;
  } catch {
    return undefined;
  }
}

function answers(who: string, part: Fields): Fact {
  const kind = word(part.kind);
  const state = part.healthy === true ? "Answers" : part.healthy === false ? "Does not answer" : unknown;
  return { name: who, value: kind ? `${state} (${kind})` : state };
}

function memory(health: Fields): string {
  const [total, free] = [bytes(health.memory_total), bytes(health.memory_available)];
  if (!total || free === undefined || free > total) return unknown;
  return `${gb(total - free)} of ${gb(total)} GB used`;
}

function disk(health: Fields): string {
  const [total, free] = [bytes(health.disk_total), bytes(health.disk_free)];
  if (free === undefined) return unknown;
  if (!total || free > total) return `${gb(free)} GB free; its size is not reported`;
  return `${gb(total - free)} of ${gb(total)} GB used, ${gb(free)} GB free`;
}

const longestUp = 100 * 365 * 86_400; // seconds
function lasted(v: unknown): string {
  const seconds = number(v, longestUp);
  return seconds === undefined ? unknown : duration(seconds * 1000);
}

function names(keys: unknown): string {
  if (!Array.isArray(keys)) return unknown;
  const list = keys.slice(0, 20).flatMap((k) => word(k) ?? []);
  return list.length === 0 ? "None" : list.join(", ");
}

/** Returns the machine's report "debug" as facts, and what is wrong with what to do, the most urgent first. */
export function summaryOf(report: Fields): Summary {
  const [desktop, agent, health] = [fields(report.desktop), fields(report.agent), fields(report.health)];
  const tunnel = fields(report.tunnel);
  const [width, height] = [number(desktop.width, 65_535), number(desktop.height, 65_535)];
  const load = number(health.load, 1e6);
  const since = typeof tunnel.up_since === "string" ? Date.parse(tunnel.up_since.slice(0, 40)) : NaN;
  const facts: Fact[] = [
    answers("Desktop", desktop),
    { name: "Screen", value: width && height ? `${width} × ${height}` : unknown },
    answers("Agent", agent),
    { name: "Memory", value: memory(health) },
    { name: "Disk", value: disk(health) },
    {
      name: "Load",
      value:
        load === undefined
          ? unknown
          : `${Math.round(load * 10) / 10} programs at work, on average over the last minute`,
    },
    { name: "Machine running for", value: lasted(health.uptime_seconds) },
    { name: "Guest running for", value: lasted(report.guest_uptime_seconds) },
    { name: "Connected since", value: Number.isNaN(since) ? unknown : new Date(since).toLocaleString() },
    { name: "API keys", value: names(report.keys) },
  ];
  return { facts, problems: problemsOf(report, desktop, agent, health) };
}

function problemsOf(report: Fields, desktop: Fields, agent: Fields, health: Fields): Problem[] {
  const list: Problem[] = [];
  const add = (wrong: boolean, what: string, next: string) => wrong && list.push({ what, next });
  const again = "The guest restarts it. If it still does not answer in a minute, stop and start the desktop.";
  add(desktop.healthy === false, "The desktop does not answer.", again);
  add(agent.healthy === false, "The agent does not answer.", again);
  const [diskFree, diskAll] = [bytes(health.disk_free), bytes(health.disk_total)];
  add(
    diskFree !== undefined && (diskFree < 2 ** 30 || (!!diskAll && diskFree < diskAll / 20)),
    "The disk is almost full.",
    "Delete files that you no longer need. You can ask the agent to find the largest ones.",
  );
  const [free, all] = [bytes(health.memory_available), bytes(health.memory_total)];
  add(
    free !== undefined && !!all && free < all / 10,
    "The memory is almost full.",
    "Close programs on the desktop, or stop and start it.",
  );
  add(
    Array.isArray(report.keys) && report.keys.length === 0 && !/stand-in/.test(word(agent.kind) ?? ""),
    "The agent has no API key, so it has no model.",
    "Add a key under API keys. No restart is needed.",
  );
  return list;
}

const mostPrograms = 40;

/** Returns the programs in the machine's report "check", with their versions. */
export function programsOf(report: Fields): Fact[] {
  const guest = word(report.guest);
  const list = Array.isArray(report.programs) ? report.programs.slice(0, mostPrograms).map(fields) : [];
  return [
    { name: "Guest", value: guest ?? unknown },
    { name: "Processor", value: word(report.os) ?? unknown },
    ...list.flatMap((p) => {
      const name = word(p.name);
      if (!name) return [];
      return [{ name, value: word(p.path) ? (word(p.version) ?? "Installed") : "Not installed" }];
    }),
  ];
}
