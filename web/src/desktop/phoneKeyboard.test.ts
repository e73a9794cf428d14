import { expect, test } from "vitest";
import { KeyboardHeight } from "./phoneKeyboard";

const upright = (height: number) => ({ width: 412, height });

test("a keyboard that opened and closed has gone, whatever the browser's bars do", () => {
  const k = new KeyboardHeight(upright(783));
  expect(k.gone(upright(839)), "the address bar goes").toBe(false);
  expect(k.gone(upright(500)), "the keyboard opens").toBe(false);
  expect(k.gone(upright(460)), "its suggestions open").toBe(false);
  expect(k.gone(upright(500)), "they close").toBe(false);
  expect(k.gone(upright(839)), "it closes").toBe(true);
});

test("a turned device has another height, and its keyboard may still go", () => {
  const k = new KeyboardHeight(upright(839));
  k.gone(upright(500));
  expect(k.gone({ width: 839, height: 180 })).toBe(false);
  expect(k.gone({ width: 839, height: 412 })).toBe(true);
  expect(new KeyboardHeight({ width: 839, height: 412 }).gone(upright(839)), "without a keyboard").toBe(false);
});
