import { expect, test } from "vitest";
import { desktopsOf, expiry } from "./scopes";

test("a token says when it expires", () => {
  expect(expiry({ expires_at: null, expired: false })).toBe("does not expire");
  expect(expiry({ expires_at: "2026-11-28T12:00:00Z", expired: true })).toMatch(/^expired on .*2026/);
  expect(expiry({ expires_at: "2026-11-28T12:00:00Z", expired: false })).toMatch(/^expires on .*2026/);
});

test("a token's desktops are named as far as they exist", () => {
  const known = [
    { id: "A", name: "Garden" },
    { id: "B", name: "Kitchen" },
  ];
  expect(desktopsOf(["A", "B"], known, true)).toBe("Garden, Kitchen");
  expect(desktopsOf(["A", "C"], known, true)).toBe("Garden, one that no longer exists");
  expect(desktopsOf(["C", "D"], known, true)).toBe("2 that no longer exist");
  // The list is not read yet, or has another page.
  expect(desktopsOf(["A", "C"], known, false)).toBe("Garden, 1 more");
  expect(desktopsOf(["C"], known, false)).toBe("1 desktop");
  expect(desktopsOf(["C", "D"], [], false)).toBe("2 desktops");
});
