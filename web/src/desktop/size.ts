// Who sets the size of the remote screen when several viewers have windows of different sizes: one of them, as the guest
// decides (guest/viewers). The others show the screen scaled. The server's answers say who it is.

/** Why a viewer asks for a size. The numbers are those of guest/viewers. */
export const reasons = {
  /** The user works here, or chose Match. */
  works: 0,
  /** The viewer is new: it gets the size if no other viewer is there. */
  arrives: 1,
  /** It had the size before its connection broke. */
  returns: 2,
  /** The user chose another mode than Match. */
  leaves: 3,
  /** All viewers get the default size. */
  resets: 4,
} as const;

export type Reason = keyof typeof reasons;

export type SizeEvent =
  | { from: "me" | "other" } // the viewer got the size that it asked for, or another viewer sets the size
  | { from: "server"; changed: boolean }; // a program resized it, or the server reports the current size

/** Reports whether this viewer sets the size after the event; mine: it did before. */
export function decides(mine: boolean, e: SizeEvent): boolean {
  return e.from === "server" ? mine && !e.changed : e.from === "me";
}
