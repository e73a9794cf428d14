// Which views of a workspace fit into the window: the desktop and the chat side by side, one above the other, or one.
import type { View } from "@/search";

/**
 * The least size in CSS pixels at which each is usable beside the other. In less height the chat has no room for a
 * message between its bar and its text field. In less width a desktop of 1280 pixels shows letters 4 pixels high.
 */
export const least = { desktop: { width: 480, height: 240 }, chat: { width: 320, height: 280 } };
export const barHeight = 45;
export const splitter = 10;

/** Media queries. */
export const sideBySide = `(min-width: ${least.desktop.width + splitter + least.chat.width}px)`;
export const stacked = `(min-height: ${barHeight + least.desktop.height + splitter + least.chat.height}px)`;

/** The part that the user last used. */
export type Front = "desktop" | "chat";

export interface Arrangement {
  /** The views that the user may choose. */
  offered: View[];
  view: View;
  /** The desktop is above the chat. */
  vertical: boolean;
  /** The user wants both, and there is room for one. */
  waits: boolean;
}

/** chosen: by the user; undefined: side by side if there is room, otherwise the desktop. */
export function arrange(
  chosen: View | undefined,
  fits: { sideBySide: boolean; stacked: boolean },
  front: Front,
): Arrangement {
  const one = !fits.sideBySide && !fits.stacked;
  const wanted = chosen ?? (fits.stacked && !fits.sideBySide ? "desktop" : "both");
  return {
    offered: one ? ["desktop", "chat"] : ["desktop", "both", "chat"],
    view: one && wanted === "both" ? front : wanted,
    vertical: !fits.sideBySide,
    waits: one && wanted === "both",
  };
}
