import { expect, test } from "vitest";
import { arrange, sideBySide, stacked } from "./views";

const wide = { sideBySide: true, stacked: true };
const upright = { sideBySide: false, stacked: true };
const small = { sideBySide: false, stacked: false };

test("without a choice, both are shown side by side, and the desktop where they would be stacked", () => {
  expect(arrange(undefined, wide, "desktop")).toMatchObject({ view: "both", vertical: false });
  expect(arrange(undefined, upright, "chat")).toMatchObject({ view: "desktop" });
  expect(arrange("both", upright, "chat")).toMatchObject({ view: "both", vertical: true });
});

test("where only one fits, both are not offered, and the part last used stands for them", () => {
  for (const front of ["desktop", "chat"] as const)
    for (const chosen of ["both", undefined] as const)
      expect(arrange(chosen, small, front)).toEqual({
        offered: ["desktop", "chat"],
        view: front,
        vertical: true,
        waits: true,
      });
  expect(arrange("chat", small, "desktop")).toMatchObject({ view: "chat", waits: false });
});

test("a choice of one stays when there is room", () => {
  for (const fits of [wide, upright, small])
    for (const view of ["desktop", "chat"] as const)
      expect(arrange(view, fits, view === "chat" ? "desktop" : "chat")).toMatchObject({ view, waits: false });
});

test("the queries add up", () => {
  expect([sideBySide, stacked]).toEqual(["(min-width: 810px)", "(min-height: 575px)"]);
});
