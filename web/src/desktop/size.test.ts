import { expect, it } from "vitest";
import { decides, type SizeEvent } from "./size";

const me = { from: "me" } as const;
const other = { from: "other" } as const;
const report = { from: "server", changed: false } as const;
const program = { from: "server", changed: true } as const;

it.each<[string, SizeEvent[], boolean]>([
  ["granted", [report, me], true],
  ["granted, and the server reports the size again", [me, report], true],
  ["another viewer works", [me, other], false],
  ["this viewer works again", [me, other, me], true],
  ["a program resizes the screen", [me, program], false],
  ["a granted size comes first as the server's own", [me, program, me], true],
  ["only reported", [report], false],
])("%s", (_, events, want) => {
  let mine = false;
  for (const e of events) mine = decides(mine, e);
  expect(mine).toBe(want);
});
