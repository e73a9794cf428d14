import { expect, it } from "vitest";
import { decides, type SizeEvent } from "./size";

// Two viewers and a server that reports to each who asked for a size.
function play(...turns: ("a works" | "b works" | "program" | "report")[]) {
  const mine = { a: false, b: false };
  let requests = 0;
  const report = (who: "a" | "b", e: SizeEvent) => {
    const before = mine[who];
    mine[who] = decides(before, e);
    if (mine[who] && !before && e.type === "worked") ask(who);
  };
  const ask = (who: "a" | "b") => {
    requests++;
    report(who, { type: "resized", from: "me" });
    report(who === "a" ? "b" : "a", { type: "resized", from: "other" });
  };
  for (const turn of turns) {
    if (turn === "a works") report("a", { type: "worked" });
    else if (turn === "b works") report("b", { type: "worked" });
    else
      for (const who of ["a", "b"] as const)
        report(who, { type: "resized", from: "server", changed: turn === "program" });
  }
  return { ...mine, requests };
}

it.each([
  [["a works"], { a: true, b: false, requests: 1 }],
  [["a works", "a works", "report"], { a: true, b: false, requests: 1 }],
  [["a works", "b works"], { a: false, b: true, requests: 2 }],
  [["a works", "b works", "a works", "a works"], { a: true, b: false, requests: 3 }],
  [["a works", "program"], { a: false, b: false, requests: 1 }],
  [["report"], { a: false, b: false, requests: 0 }],
] as const)("%j", (turns, want) => expect(play(...turns)).toEqual(want));
