// What a machine reports of its agent beside its versions. Nothing is claimed that it does not report.
import { str } from "./frames";

export interface Facts {
  agent: "demo" | "real" | undefined; // demo: the stand-in without a model; undefined: not reported
  sees: boolean; // it sees the desktop
  model: string | undefined; // its id; "": there is none; undefined: not known
}

export const unknown: Facts = { agent: undefined, sees: false, model: undefined };

export function factsOf(versions: Record<string, unknown>): Facts {
  const { agent, agent_sees: sees, model } = versions;
  const id = str(model);
  return {
    agent: agent === "stand-in" ? "demo" : agent === "openclaw" ? "real" : undefined,
    sees: sees === "desktop",
    model: id === "none" ? "" : id === "unknown" || id === "" ? undefined : id,
  };
}

/** needsKey reports whether the agent has no model to think with. */
export const needsKey = (f: Facts): boolean => f.agent === "real" && f.model === "";

/** modelName is a model's id without its provider. */
export const modelName = (id: string): string => id.slice(id.lastIndexOf("/") + 1) || id;

/** Suggestion is a request to try. */
export interface Suggestion {
  label: string;
  text: string;
  /** Pressing it sends the text; otherwise it only writes it, because an answer costs money and the user may change it. */
  send: boolean;
}

const written = (text: string): Suggestion => ({ label: text, text, send: false });

const demo: Suggestion[] = [
  { label: "Watch a demo on the desktop", text: "/demo", send: true },
  { label: "See how the agent asks you a question", text: "/ask", send: true },
  { label: "See what an answer can contain", text: "/markdown", send: true },
];
const withDesktop = [
  "Open a browser and show me today's weather in Berlin",
  "Take a screenshot and tell me what you see",
  "Write a to-do list in a text file on the Desktop",
].map(written);
const withoutDesktop = [
  "Tell me what this machine is: its system, memory and free disk space",
  "Write a short Python program that draws a calendar of this month, and run it",
  "Look into your workspace and tell me what you can do here",
].map(written);

export function suggestions(f: Facts): Suggestion[] {
  if (f.agent === "demo") return demo;
  return f.agent === "real" && f.model ? (f.sees ? withDesktop : withoutDesktop) : [];
}
