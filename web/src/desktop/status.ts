// Texts for the state of a desktop.
import type { Ending, Why } from "@/bridge/reconnect";
import type { DesktopSnapshot } from "./snapshot";

export const whys: Record<Why, string> = {
  lost: "The connection was lost.",
  unserved: "The server is not responding.",
  unreachable: "The machine is not responding.",
  starting: "The desktop is still starting.",
  restarting: "The server is restarting.",
  busy: "Too many viewers are connected.",
  proxy: "A proxy between you and the server blocks WebSockets. Ask its operator to let the Upgrade header pass.",
  offline: "This device is offline. It reconnects when the network is back.",
  hidden: "Paused while this tab was in the background.",
};

export const endings: Record<Ending["reason"], { title: string; detail: string; button: string }> = {
  signed_out: { title: "You are logged out", detail: "Log in again to see this desktop.", button: "Log in" },
  forbidden: {
    title: "You can't open this desktop",
    detail: "You no longer have access to it.",
    button: "Back to desktops",
  },
  gone: {
    title: "This machine no longer exists",
    detail: "It was terminated. Its history is kept.",
    button: "Back to desktops",
  },
  origin: {
    title: "Desktops can't be opened from this address",
    detail: "Open CloudBot at its own address, or ask its operator to add this one to CORS_ORIGINS.",
    button: "Try again",
  },
  refused: {
    title: "The server refused the connection",
    detail: "Something unexpected happened. Try again.",
    button: "Try again",
  },
};

/** The text in the toolbar. */
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
        return now.focused && !short ? "View only. Press Ctrl + Alt + Shift to leave the desktop." : "View only";
      if (now.focused && !(short && now.onScreen))
        return short
          ? "Ctrl+Alt+Shift to leave"
          : "The desktop receives your keys. Press Ctrl + Alt + Shift to leave it.";
      return [short ? "" : "Connected", `${now.width} × ${now.height}`].filter(Boolean).join(" · ");
  }
}

/** Who sets the desktop's size, if this viewer is in Match and another one may; "": not worth a word. */
export function sizeLine({ scale, mode, takesSize, decides, painted, viewers }: DesktopSnapshot): string {
  if (scale !== "match" || mode === "view" || takesSize === false || !painted) return "";
  if (decides) return viewers > 1 ? "You set the size" : "";
  return `${viewers > 1 ? "Another viewer sets the size" : "Its size was changed"}; click or type here to take over`;
}

/** That other viewers see the desktop, and who sets its size; "": there are none. A toolbar has no room for more words. */
export function viewersLine(now: DesktopSnapshot, short: boolean): string {
  if (now.viewers < 2 || now.link.at !== "open") return "";
  const line = short || !sizeLine(now) ? "" : now.decides ? ". You set the size." : `. ${another}.`;
  return `${now.viewers} viewers${line}`;
}

const another = "Another sets the size; click or type to take over";
