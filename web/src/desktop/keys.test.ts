import { describe, expect, it } from "vitest";
import { keysymOf, meansControl, pastes, typed, WayOut } from "./keys";

const letter = (code: string) => (/^Key(.)$/.exec(code)?.[1] ?? code).toLowerCase();
const press = (code: string, ...held: string[]) => ({
  code,
  key: letter(code),
  ctrlKey: held.includes("ctrl"),
  altKey: held.includes("alt"),
  shiftKey: held.includes("shift"),
  metaKey: held.includes("meta"),
});

describe("pasting", () => {
  it.each([
    [press("KeyV", "ctrl"), false, true],
    [press("KeyV", "ctrl", "shift"), false, true],
    [press("Insert", "shift"), false, true],
    [press("Insert", "ctrl"), false, false],
    [press("KeyV", "ctrl", "alt"), false, false],
    [press("KeyV"), false, false],
    [press("KeyV", "meta"), false, false],
    [press("KeyV", "meta"), true, true],
    [press("KeyV", "ctrl"), true, false],
    [{ ...press("KeyV", "ctrl"), key: "k" }, false, false], // Dvorak's K is there
    [{ ...press("Period", "ctrl"), key: "v" }, false, true], // and its V here
    [{ ...press("KeyV", "ctrl"), key: "." }, false, false],
    [{ ...press("KeyV", "ctrl"), key: "м" }, false, true], // a Russian layout
    [{ ...press("KeyV", "ctrl", "shift"), key: "V" }, false, true],
  ])("%o on a Mac %s: %s", (e, mac, want) => expect(pastes(e, mac)).toBe(want));

  it("turns ⌘C of a Mac into Ctrl+C, and leaves ⌘Q alone", () => {
    expect(meansControl(press("KeyC", "meta"), true)).toBe(true);
    expect(meansControl(press("KeyC", "meta"), false)).toBe(false);
    expect(meansControl(press("KeyQ", "meta"), true)).toBe(false);
    expect(meansControl({ ...press("KeyI", "meta"), key: "c" }, true)).toBe(true);
  });
});

it("writes characters as X does", () => {
  expect([..."aé€\n😀"].map(keysymOf)).toEqual([0x61, 0xe9, 0x010020ac, 0xff0d, 0x0101f600]);
});

describe("an on-screen keyboard's field", () => {
  it.each([
    ["__", "__a", 0, ["a"]],
    ["__", "_", 1, []],
    ["__teh", "__the", 2, ["h", "e"]],
    ["__", "__😀", 0, ["😀"]],
    ["__👩‍👩‍👧🇩🇪", "__", 2, []],
    ["__e\u0301", "__", 2, []],
  ])("%s → %s", (before, after, removed, added) => expect(typed(before, after)).toEqual({ removed, added }));
});

/** Presses (+) and releases (-) in turn; returns whether one of them leaves. */
function run(...events: string[]) {
  const out = new WayOut();
  return events.map((e) => (e[0] === "+" ? out.press(e.slice(1)) : out.release(e.slice(1)))).includes(true);
}

describe("the way out", () => {
  it("is Ctrl, Alt and Shift alone, in any order", () => {
    expect(run("+ControlLeft", "+AltLeft", "+ShiftLeft", "-AltLeft")).toBe(true);
    expect(run("+ShiftRight", "+ControlLeft", "+AltLeft", "-ShiftRight", "-AltLeft", "-ControlLeft")).toBe(true);
  });
  it("is not part of a shortcut of the desktop", () => {
    expect(run("+ControlLeft", "+AltLeft", "+ShiftLeft", "+KeyT", "-KeyT", "-ShiftLeft", "-AltLeft")).toBe(false);
    expect(run("+ControlLeft", "+AltLeft", "-AltLeft", "-ControlLeft")).toBe(false);
  });
});
