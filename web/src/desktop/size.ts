// Who sets the size of the remote screen when several viewers have windows of different sizes. The viewer who last
// worked there sets it; a viewer that learns of another's resize shows the screen scaled. The server reports to each
// viewer who asked, so this works across browsers and viewers do not compete.

export type SizeEvent =
  | { type: "worked" } // a key or button pressed here, or Match chosen here
  | { type: "resized"; from: "me" | "other" }
  | { type: "resized"; from: "server"; changed: boolean }; // a program resized it, or the server reports the current size

export function decides(mine: boolean, e: SizeEvent): boolean {
  if (e.type === "worked") return true;
  if (e.from === "server") return mine && !e.changed;
  return e.from === "me";
}
