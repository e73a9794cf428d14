import { expect, test } from "vitest";
import { found } from "./find";
import type { Message } from "./frames";

test("each message is read once, however often the query changes", () => {
  let reads = 0;
  const message = { id: "m1", role: "user", tools: [] } as unknown as Message;
  Object.defineProperty(message, "text", { get: () => (reads++, "Some **bold** text") });
  expect(["b", "bo", "bold text", "none"].map((q) => found([message], q))).toEqual([["m1"], ["m1"], ["m1"], []]);
  expect(reads).toBe(1);
});
