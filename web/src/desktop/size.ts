// Who decides how large the remote screen is when several look at it, each in a window of another size.
// The one who last worked there does; whoever learns that another one resized it shows it scaled. The
// server tells each viewer who asked, so this holds across browsers and nobody fights.

export type SizeEvent =
  | { type: "worked" } // a key or button pressed here, or Match chosen here
  | { type: "resized"; from: "me" | "other" }
  | { type: "resized"; from: "server"; changed: boolean }; // a program there, or only the news of the present size

export function decides(mine: boolean, e: SizeEvent): boolean {
  if (e.type === "worked") return true;
  if (e.from === "server") return mine && !e.changed;
  return e.from === "me";
}
