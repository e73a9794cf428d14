import { screen, settled, terminal } from "./desktop";
import { expect, firstDesktop, signUp, test } from "./fixtures";

/** 500 letters of many scripts. */
const letters = [
  ["А", 64],
  ["ա", 38],
  ["ก", 46],
  ["ა", 33],
  ["ぁ", 83],
  ["一", 236],
].flatMap(([first, count]) =>
  Array.from({ length: count as number }, (_, i) => String.fromCodePoint((first as string).codePointAt(0)! + i)),
);

test("500 letters that the keyboard lacks arrive, twice", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const typed = await terminal(page, "cat");
  expect(new Set(letters).size).toBe(500);
  // Playwright types only the letters of a US keyboard with keys.
  // Each burst fits the keyboard: of a longer one, a late terminal may read a key code after its letter changed.
  let all = "";
  for (let i = 0; i < 2; i++)
    for (let at = 0; at < letters.length; at += 50) {
      const burst = letters.slice(at, at + 50);
      await screen(page).evaluate((canvas, keys) => {
        for (const key of keys)
          for (const type of ["keydown", "keyup"])
            canvas.dispatchEvent(new KeyboardEvent(type, { key, code: "KeyA", bubbles: true, cancelable: true }));
      }, burst);
      all += burst.join("");
      await expect.poll(typed.read, { timeout: 60_000 }).toBe(all);
    }
  await typed.remove();
});
