// Words for the state of a desktop.
import type { Ending, Why } from "@/bridge/reconnect";
import type { DesktopSnapshot } from "./Desktop";

/** What is used of the API's Instance. */
export interface DesktopInstance {
  name: string;
  status: string;
  phase: string;
  phase_detail?: string | null;
  progress: number;
  status_reason?: string | null;
}

/** Whether the machine has a desktop to connect to, as far as the log has told. */
export const isUp = (i: DesktopInstance): boolean => i.status === "running" && ["desktop", "agent", "ready"].includes(i.phase);

export const whys: Record<Why, string> = {
  lost: "The connection broke off.",
  unserved: "The server does not answer.",
  unreachable: "The machine does not answer.",
  starting: "The desktop is still starting.",
  restarting: "The server is restarting.",
  busy: "There are as many viewers as there may be.",
  offline: "This device has no network. It goes on as soon as there is one.",
  hidden: "Paused while this tab was hidden.",
};

export const endings: Record<Ending["reason"], { title: string; detail: string; button: string }> = {
  signed_out: { title: "You are signed out", detail: "Sign in again to see this desktop.", button: "Sign in" },
  forbidden: { title: "You may not see this desktop", detail: "It is not yours, or not any more.", button: "Back to the desktops" },
  gone: { title: "This machine is gone", detail: "It was terminated. Its history is kept.", button: "Back to the desktops" },
  refused: { title: "The server refused the connection", detail: "This should not happen; it may be over by now.", button: "Try again" },
};

/** How the machine is while there is nothing to connect to. */
export function machineLine(i: DesktopInstance): { title: string; detail: string; boots: boolean } {
  const detail = i.status_reason ?? i.phase_detail ?? "";
  switch (i.status) {
    case "launching":
    case "starting":
    case "running":
      return { title: "The machine is starting", detail: detail || (phases[i.phase] ?? ""), boots: true };
    case "stopping":
      return { title: "The machine is stopping", detail, boots: false };
    case "stopped":
      return { title: "The machine is stopped", detail: detail || "Its disk is kept. Start it to see its desktop.", boots: false };
    case "terminating":
    case "terminated":
      return { title: "This machine is gone", detail: detail || "It was terminated. Its history is kept.", boots: false };
    default:
      return { title: "The machine failed", detail, boots: false };
  }
}

const phases: Record<string, string> = {
  requested: "It is asked for.",
  allocating: "A machine is being found.",
  booting: "It boots.",
  installing: "Programs are being installed.",
};

/** The line in the toolbar. */
export function statusLine(now: DesktopSnapshot, short: boolean): string {
  switch (now.link.at) {
    case "idle":
      return "Not connected";
    case "connecting":
      return "Connecting…";
    case "waiting":
      return now.link.why === "hidden" ? "Paused" : "Reconnecting…";
    case "ended":
      return "Ended";
    case "open":
      if (now.mode === "view") return now.focused && !short ? "View only. Ctrl + Alt + Shift together leaves the desktop." : "View only";
      if (now.focused) return short ? "Ctrl+Alt+Shift leaves" : "Keys go to the desktop. Ctrl + Alt + Shift together leaves it.";
      return [short ? "" : "Connected", `${now.width} × ${now.height}`].filter(Boolean).join(" · ");
  }
}
