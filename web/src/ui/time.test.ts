import { expect, test } from "vitest";
import { duration } from "./time";

test.each([
  [0, "0 s"],
  [89, "89 s"],
  [90, "1 min 30 s"],
  [599, "9 min 59 s"],
  [629, "10 min"],
  [3599, "1 h 0 min"],
  [7199, "2 h 0 min"],
  [7260, "2 h 1 min"],
])("%d s are %s", (s, text) => {
  expect(duration(s * 1000)).toBe(text);
});
