// How the gateway reports a tool that a person did not allow. While an answer is under way, events say so; the history
// has only the text of the result. So it is with the use of a desktop whose mouse and keyboard the user holds.
import { rec } from "./frames";

export type Refusal =
  | "denied"
  | "expired"
  | "stopped" // with its run, before it was allowed or had ended
  | "held"; // the user had the mouse and keyboard

const exec = /^Exec denied \((?:[^()\n]{0,200}, )?(user-denied|approval-timeout)\b[^()\n]{0,200}\): /;
const plugin = "Denied by user. The tool call did not run.";

const busy = "Error: COMPUTER_HOST_BUSY: another execution owns the Gateway computer"; // between runs: the guest leases it
const noInput = /^Error: COMPUTER_DRIVER_ERROR: (?:.*: )?Unsupported extension$/; // the guest holds XTEST back
const ours = "The user has the mouse and keyboard."; // the stand-in's

/**
 * refusalIn reads a failed tool's result. args is the tool's input as text: a result that speaks of another command is
 * not the gateway's.
 */
export function refusalIn(name: string, result: string, args: string): Refusal | undefined {
  if (result === "Aborted") return "stopped";
  if (name === "computer" && heldIn(result)) return "held";
  if (result === plugin || result.startsWith(`${plugin}\n`)) return "denied";
  const found = exec.exec(result);
  if (!found) return undefined;
  const command = commandIn(args);
  if (command !== undefined && result.slice(found[0].length).trim() !== command.trim()) return undefined;
  return found[1] === "user-denied" ? "denied" : "expired";
}

function heldIn(result: string): boolean {
  if (result === ours) return true;
  try {
    const { tool, status, error } = rec(JSON.parse(result));
    return tool === "computer" && status === "error" && (error === busy || noInput.test(String(error)));
  } catch {
    return false;
  }
}

/** commandIn returns the command of a tool's input; undefined: the input is not known whole. */
function commandIn(args: string): string | undefined {
  try {
    const { command } = rec(JSON.parse(args));
    return typeof command === "string" ? command : undefined;
  } catch {
    return undefined;
  }
}

/** refusalOf reads how a prompt ended, as the guest or the agent's events report it. */
export const refusalOf = (status: unknown): Refusal | undefined =>
  status === "denied" || status === "expired" || status === "stopped"
    ? status
    : status === "cancelled"
      ? "stopped"
      : undefined;
