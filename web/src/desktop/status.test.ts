import { expect, it } from "vitest";
import type { DesktopSnapshot } from "./snapshot";
import { sizeLine, viewersLine } from "./status";

const alone = {
  link: { at: "open" },
  mode: "control",
  scale: "match",
  takesSize: true,
  painted: true,
  decides: true,
  viewers: 0,
} as DesktopSnapshot;

it.each<[Partial<DesktopSnapshot>, string]>([
  [{}, ""],
  [{ viewers: 2 }, "2 viewers. You set the size."],
  [{ viewers: 2, decides: false }, "2 viewers. Another sets the size; click or type to take over."],
  [{ viewers: 3, decides: false, scale: "fit" }, "3 viewers"],
  [{ viewers: 3, decides: false, mode: "view" }, "3 viewers"],
  [{ viewers: 2, takesSize: false }, "2 viewers"],
])("%j: %s", (more, want) => expect(viewersLine({ ...alone, ...more }, false)).toBe(want));

it("is short where there is no room", () => expect(viewersLine({ ...alone, viewers: 2 }, true)).toBe("2 viewers"));

it("says that a program changed the size", () =>
  expect(sizeLine({ ...alone, decides: false })).toBe("Its size was changed; click or type here to take over"));
