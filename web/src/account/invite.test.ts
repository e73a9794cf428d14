import { expect, test } from "vitest";
import { inviteIn } from "./invite";

test("an invitation code is read from the fragment", () => {
  expect(inviteIn("#invite=K7QFA-2BCDE-FGHIJ-KLMNO-PQRSTU")).toBe("K7QFA-2BCDE-FGHIJ-KLMNO-PQRSTU");
  expect(inviteIn("#other=1&invite=%20ABC%20")).toBe("ABC");
  expect(inviteIn("")).toBe("");
  expect(inviteIn("#")).toBe("");
  expect(inviteIn("#section")).toBe("");
  expect(inviteIn("#invite=" + "A".repeat(5_000))).toHaveLength(100);
});
