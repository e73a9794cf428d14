// Keys as X names them (keysyms) and by their place on a keyboard (codes, as in KeyboardEvent.code).

export interface Key {
  name: string;
  keysym: number;
  code: string;
}

const key = (name: string, keysym: number, code: string): Key => ({ name, keysym, code });

export const Escape = key("Esc", 0xff1b, "Escape");
export const Tab = key("Tab", 0xff09, "Tab");
export const Enter = key("Enter", 0xff0d, "Enter");
export const Backspace = key("Backspace", 0xff08, "Backspace");
export const Delete = key("Delete", 0xffff, "Delete");
export const Print = key("Print", 0xff61, "PrintScreen");
export const Control = key("Ctrl", 0xffe3, "ControlLeft");
export const Alt = key("Alt", 0xffe9, "AltLeft");
export const Shift = key("Shift", 0xffe1, "ShiftLeft");
export const Super = key("Super", 0xffeb, "MetaLeft");

export const modifiers = [Control, Alt, Shift, Super] as const;

const F = (n: number) => key(`F${n}`, 0xffbd + n, `F${n}`);
export const functionKeys = Array.from({ length: 12 }, (_, i) => F(i + 1));

/** Keys pressed together, in this order. */
export type Combination = { name: string; keys: readonly Key[] };

export const ctrlAltDel: Combination = { name: "Ctrl + Alt + Del", keys: [Control, Alt, Delete] };

export const combinations: readonly Combination[] = [
  ctrlAltDel,
  ...[Escape, Tab, Super, Print].map((k) => ({ name: k.name, keys: [k] })),
  { name: "Alt + Tab", keys: [Alt, Tab] },
  { name: "Alt + F4", keys: [Alt, F(4)] },
];

/** Letters that a Mac combines with ⌘ and the desktop expects with Ctrl. */
const editing = new Set(["a", "c", "x", "z"]);

type Press = Pick<KeyboardEvent, "key" | "code" | "ctrlKey" | "altKey" | "shiftKey" | "metaKey">;

/** Returns the letter of a shortcut: the layout's letter, or the key's place for a layout that is not Latin. */
export const letterOf = (e: Pick<Press, "key" | "code">): string => {
  if (/^[a-z]$/i.test(e.key)) return e.key.toLowerCase();
  const latin = /^[\u0020-\u024f]$/u.test(e.key); // a sign of a Latin layout, such as Dvorak's, where V is elsewhere
  return latin ? "" : (/^Key([A-Z])$/.exec(e.code)?.[1] ?? "").toLowerCase();
};

/** Reports whether this key press pastes, so that the desktop needs the text first. */
export function pastes(e: Press, mac: boolean): boolean {
  if (mac) return letterOf(e) === "v" && e.metaKey && !e.ctrlKey && !e.altKey;
  if (e.altKey || e.metaKey) return false;
  return (letterOf(e) === "v" && e.ctrlKey) || (e.code === "Insert" && e.shiftKey && !e.ctrlKey);
}

/** Reports whether ⌘ with this key on a Mac means Ctrl on the desktop. */
export const meansControl = (e: Press, mac: boolean): boolean =>
  mac && e.metaKey && !e.ctrlKey && !e.altKey && editing.has(letterOf(e));

/** Returns the keysym of a character: Latin-1 unchanged, all others as X encodes Unicode. */
export function keysymOf(character: string): number {
  if (character === "\n" || character === "\r") return Enter.keysym;
  if (character === "\t") return Tab.keysym;
  const point = character.codePointAt(0)!;
  return point >= 0x20 && point <= 0xff ? point : 0x0100_0000 + point;
}

// One Backspace deletes an emoji of several characters.
const emoji =
  /\p{RI}{2}|\p{Extended_Pictographic}(?:\p{EMod}|\ufe0f)*(?:\u200d\p{Extended_Pictographic}(?:\p{EMod}|\ufe0f)*)*/gu;

/**
 * Returns what was typed into a field: the number of Backspaces, and the added characters. On-screen
 * keyboards report nothing else.
 */
export function typed(before: string, after: string): { removed: number; added: string[] } {
  const a = [...before];
  const b = [...after];
  let same = 0;
  while (same < a.length && same < b.length && a[same] === b[same]) same++;
  return { removed: [...a.slice(same).join("").replace(emoji, "x")].length, added: b.slice(same) };
}

/**
 * Ctrl, Alt and Shift pressed together and released with no other key: the way out of the desktop for a keyboard
 * whose every other key goes to the desktop.
 */
export class WayOut {
  #down = new Set<string>();
  #armed = false;

  press(code: string) {
    const kind = wayOutKey(code);
    if (kind === undefined) {
      this.#armed = false;
      return;
    }
    this.#down.add(kind);
    if (this.#down.size === 3) this.#armed = true;
  }

  /** Reports whether releasing this key leaves the desktop. */
  release(code: string): boolean {
    const kind = wayOutKey(code);
    const out = this.#armed && kind !== undefined;
    this.#armed = false;
    if (kind !== undefined) this.#down.delete(kind);
    return out;
  }

  reset() {
    this.#down.clear();
    this.#armed = false;
  }
}

const wayOutKey = (code: string) => /^(Control|Alt|Shift)(Left|Right)$/.exec(code)?.[1];
