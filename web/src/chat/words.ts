// The chat's words for what the machine and the connection say in codes.
import type { State, Why } from "@/bridge/reconnect";

// A Map, as the machine names the phase: an object has names of its own, such as "constructor".
const phases = new Map(
  Object.entries({
    preparing_workspace: "Preparing the workspace",
    naming_worktree: "Naming the working copy",
    creating_worktree: "Making a working copy",
    running_setup: "Running the setup",
    provisioning_environment: "Setting up the environment",
    preparing_context: "Reading the context",
    starting_model: "Starting the model",
  }),
);

/** phaseWords says what a run does before there is something to read. */
export const phaseWords = (phase: string): string => phases.get(phase) ?? (phase.replaceAll("_", " ") || "Thinking");

const whys: Record<Why, string> = {
  lost: "The connection to the agent broke off. It is made again by itself; what you write is kept.",
  unserved: "The server does not answer. Trying again; what you write is kept.",
  unreachable: "The agent cannot be reached. Trying again; what you write is kept.",
  starting: "The agent is still starting. This can take half a minute.",
  restarting: "The agent is restarting. It will be back in a moment.",
  busy: "This machine has as many open connections as it may. Trying again.",
  proxy:
    "A proxy between you and the server blocks WebSockets, so the agent can't be reached. Its operator must let the Upgrade header pass.",
  offline: "You are offline. What you write is kept and sent once you are online again.",
  hidden: "The connection was let go while nobody looked.",
};

/** linkWords is what to say of a connection; undefined: all is well. */
export function linkWords(link: State, everOpen: boolean): string | undefined {
  switch (link.at) {
    case "open":
      return undefined;
    case "idle":
      return "The agent is still starting. What you write is kept, and sent once it is there.";
    case "connecting":
      return everOpen || link.attempt > 1 ? "Connecting to the agent again…" : "Connecting to the agent…";
    case "waiting":
      return whys[link.why];
    case "ended":
      return {
        signed_out: "You are not signed in any more.",
        forbidden: "You may not use this agent.",
        gone: "This machine is gone.",
        origin:
          "This address can't reach the agent. Open CloudBot at its own address, or ask its operator to add this one to CORS_ORIGINS.",
        refused: "The server refused the connection.",
      }[link.reason];
  }
}

/** seconds is a duration in words. */
export function seconds(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  const s = ms / 1_000;
  return s < 10 ? `${s.toFixed(1)} s` : s < 90 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`;
}
