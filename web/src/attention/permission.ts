// Whether this browser may show notifications, and what its user chose.
import { useSyncExternalStore } from "react";

/**
 * unsupported: the browser has none · blocked: the browser refuses, by the user's choice · ask: not asked yet · later:
 * the user did not want to be asked · on, off: allowed, and the user's choice
 */
export type Permission = "unsupported" | "blocked" | "ask" | "later" | "on" | "off";

const key = "cloudbot.notify"; // "later" or "off"

export function permission(): Permission {
  // On Android, browsers show notifications of service workers only.
  if (!("Notification" in globalThis) || !isSecureContext || navigator.userAgent.includes("Android"))
    return "unsupported";
  const chosen = localStorage.getItem(key);
  if (Notification.permission === "denied") return "blocked";
  if (Notification.permission === "granted") return chosen === "off" ? "off" : "on";
  return chosen === "later" ? "later" : "ask";
}

const listeners = new Set<() => void>();
const changed = () => {
  for (const l of listeners) l();
};

/** permission, up to date. */
export const usePermission = () =>
  useSyncExternalStore((l) => {
    listeners.add(l);
    addEventListener("storage", l); // another tab
    document.addEventListener("visibilitychange", l); // the browser's settings
    return () => {
      listeners.delete(l);
      removeEventListener("storage", l);
      document.removeEventListener("visibilitychange", l);
    };
  }, permission);

/** Turns notifications on, and asks the browser's question if it was not answered. Call it on a press of a button. */
export async function allow() {
  localStorage.removeItem(key);
  if (Notification.permission === "default") await Notification.requestPermission();
  changed();
}

/** Turns notifications off, or stops offering them. */
export function refuse() {
  localStorage.setItem(key, Notification.permission === "granted" ? "off" : "later");
  changed();
}
