// The chat's texts for the codes of the machine and the connection.
import type { State, Why } from "@/bridge/reconnect";
import type { Tool } from "./frames";

// A Map, because the machine chooses the name: an object has names of its own, such as "constructor".
const phases = new Map(
  Object.entries({
    preparing_workspace: "Preparing the workspace",
    naming_worktree: "Naming the working copy",
    creating_worktree: "Creating a working copy",
    running_setup: "Running the setup",
    provisioning_environment: "Setting up the environment",
    preparing_context: "Reading the context",
    starting_model: "Starting the model",
  }),
);

/** phaseWords describes what a run does before there is text. */
export const phaseWords = (phase: string): string => phases.get(phase) ?? (phase.replaceAll("_", " ") || "Thinking");

const whys: Record<Why, string> = {
  lost: "Lost connection to the agent. Reconnecting; your messages are saved.",
  unserved: "The server is not responding. Retrying; your messages are saved.",
  unreachable: "The agent cannot be reached. Retrying; your messages are saved.",
  starting: "The agent is still starting. This can take half a minute.",
  restarting: "The agent is restarting. Reconnecting in a few seconds.",
  busy: "This machine has too many open connections. Retrying.",
  proxy:
    "A proxy between you and the server blocks WebSockets, so the agent can't be reached. Ask its operator to let the Upgrade header pass.",
  offline: "You are offline. Your messages are saved and will be sent when you are back online.",
  hidden: "Paused while this tab was in the background.",
};

/** linkWords describes a connection; undefined: it is open. */
export function linkWords(link: State, everOpen: boolean): string | undefined {
  switch (link.at) {
    case "open":
      return undefined;
    case "idle":
      return "The agent is still starting. Your messages are saved and will be sent when it is ready.";
    case "connecting":
      return everOpen || link.attempt > 1 ? "Reconnecting to the agent…" : "Connecting to the agent…";
    case "waiting":
      return whys[link.why];
    case "ended":
      return {
        signed_out: "You are no longer logged in.",
        forbidden: "You don't have access to this agent.",
        gone: "This machine no longer exists.",
        origin:
          "The agent can't be reached from this address. Open CloudBot at its own address, or ask its operator to add this one to CORS_ORIGINS.",
        refused: "The server refused the connection.",
      }[link.reason];
  }
}

export const toolStates: Record<Tool["state"], string> = {
  running: "running",
  done: "done",
  failed: "failed",
  stopped: "not finished",
  denied: "Denied",
  expired: "No answer in time",
  held: "You had control",
};

/** seconds returns a duration as text. */
export function seconds(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  const s = ms / 1_000;
  return s < 10 ? `${s.toFixed(1)} s` : s < 90 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`;
}

/** size returns a number of bytes as text. */
export function size(bytes: number): string {
  const kb = Math.max(1, Math.round(bytes / 1_000));
  return kb < 1_000 ? `${kb} KB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
