// Words for the state of a desktop.
import type { Ending, Why } from "@/bridge/reconnect";
import type { DesktopSnapshot } from "./snapshot";

export const whys: Record<Why, string> = {
  lost: "The connection broke off.",
  unserved: "The server does not answer.",
  unreachable: "The machine does not answer.",
  starting: "The desktop is still starting.",
  restarting: "The server is restarting.",
  busy: "Too many viewers are connected.",
  proxy: "A proxy between you and the server blocks WebSockets. Its operator must let the Upgrade header pass.",
  offline: "This device has no network. It goes on as soon as there is one.",
  hidden: "Paused while this tab was hidden.",
};

export const endings: Record<Ending["reason"], { title: string; detail: string; button: string }> = {
  signed_out: { title: "You are signed out", detail: "Sign in again to see this desktop.", button: "Sign in" },
  forbidden: {
    title: "You may not see this desktop",
    detail: "It is not yours, or not any more.",
    button: "Back to the desktops",
  },
  gone: {
    title: "This machine is gone",
    detail: "It was terminated. Its history is kept.",
    button: "Back to the desktops",
  },
  origin: {
    title: "This address can't open desktops",
    detail: "Open CloudBot at its own address, or ask its operator to add this one to CORS_ORIGINS.",
    button: "Try again",
  },
  refused: {
    title: "The server refused the connection",
    detail: "This should not happen; it may be over by now.",
    button: "Try again",
  },
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
      if (now.mode === "view")
        return now.focused && !short ? "View only. Ctrl + Alt + Shift together leaves the desktop." : "View only";
      if (now.focused)
        return short ? "Ctrl+Alt+Shift leaves" : "Keys go to the desktop. Ctrl + Alt + Shift together leaves it.";
      return [short ? "" : "Connected", `${now.width} × ${now.height}`].filter(Boolean).join(" · ");
  }
}
