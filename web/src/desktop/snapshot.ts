// What the page shows of a desktop, and the two settings that the browser keeps.
import type { State } from "@/bridge/reconnect";
import type { ClipboardState } from "./clipboard";
import type { Key } from "./keys";
import type { QualityChoice } from "./quality";

export type Mode = "control" | "view";
export type Scale = "fit" | "match" | "actual";

export interface DesktopSnapshot {
  link: State;
  /** The current connection has drawn a frame. Until then the page shows the last frame of the previous one. */
  painted: boolean;
  /** There is a last frame to show. */
  still: boolean;
  mode: Mode;
  scale: Scale;
  /** The server accepts a new size (Match). Undefined while unknown. */
  takesSize: boolean | undefined;
  /** In Match, this viewer sets the size. */
  decides: boolean;
  /** How many viewers the desktop has, this one included; 0: at most one, or unknown. */
  viewers: number;
  width: number;
  height: number;
  /** The desktop's own name. */
  title: string;
  quality: QualityChoice;
  /** The level of detail, 0 to 3. */
  level: number;
  roundTripMs: number | undefined;
  /** Keys held down from the menu. */
  held: readonly Key[];
  /** The desktop receives the keyboard. */
  focused: boolean;
  /** The user types with the device's on-screen keyboard. */
  onScreen: boolean;
  /** Dragging moves the view instead of the remote pointer. */
  panning: boolean;
  clipboard: ClipboardState;
}

type Settings = Pick<DesktopSnapshot, "scale" | "quality">;

const storageKey = "cloudbot.desktop";

export function savedSettings(): Settings {
  let from: { scale?: unknown; quality?: unknown } = {};
  try {
    from = (JSON.parse(localStorage.getItem(storageKey) ?? "{}") ?? {}) as typeof from;
  } catch {
    // The stored value is not ours.
  }
  return {
    scale: from.scale === "fit" || from.scale === "actual" ? from.scale : "match",
    quality: from.quality === "best" || from.quality === "slow" ? from.quality : "automatic",
  };
}

export function saveSettings({ scale, quality }: Settings) {
  try {
    localStorage.setItem(storageKey, JSON.stringify({ scale, quality }));
  } catch {
    // Private windows may refuse. The settings then last as long as the page.
  }
}
