import { Backspace, Control, Enter, keysymOf, typed, type Combination, type Key } from "./keys";
import type { Viewer } from "./viewer";

/** Keyboard presses keys on the connected desktop. Without a connection it presses none. */
export class Keyboard {
  /** Keys held down from the menu; a new array whenever it changes. */
  held: readonly Key[] = [];
  #viewer: Viewer | undefined;
  readonly #changed: () => void;
  readonly #used: () => void;

  /** Calls used when the user presses a key by another way than the real keyboard. */
  constructor(changed: () => void, used: () => void) {
    this.#changed = changed;
    this.#used = used;
  }

  connected(viewer: Viewer) {
    this.#viewer = viewer;
  }

  disconnected() {
    this.#viewer = undefined;
    if (this.held.length > 0) this.held = [];
  }

  press(c: Combination) {
    this.#used();
    for (const k of c.keys) this.#key(k, true);
    for (const k of c.keys.toReversed()) this.#key(k, false);
    this.releaseHeld();
  }

  /** Holds a key down, or releases it. The next combination releases it too, and so does leaving the page. */
  hold(k: Key, down: boolean) {
    if (this.held.includes(k) === down || this.#viewer === undefined) return;
    this.#key(k, down);
    this.held = down ? [...this.held, k] : this.held.filter((h) => h !== k);
    this.#changed();
  }

  /** Types what changed in a text field. Reports whether keys held down from the menu were combined with it. */
  typed(before: string, after: string): boolean {
    const { removed, added } = typed(before, after);
    this.#used();
    for (let i = 0; i < removed; i++) this.tap(Backspace);
    for (const c of added) this.#viewer?.sendKey(keysymOf(c), c === "\n" ? Enter.code : null);
    const combined = added.length > 0 && this.held.length > 0;
    if (combined) this.releaseHeld();
    return combined;
  }

  tap(k: Key) {
    this.#used();
    this.#viewer?.sendKey(k.keysym, k.code);
  }

  tapWithControl(k: Key) {
    this.releasePressed();
    this.#key(Control, true);
    this.tap(k);
    this.#key(Control, false);
  }

  /** Releases the keys that this press of a key of the real keyboard shows to be up. */
  pressed(e: KeyboardEvent) {
    this.#viewer?.releaseLost(e);
  }

  /** Releases the keys that the user presses on the real keyboard. */
  releasePressed() {
    this.#viewer?.releaseKeys();
  }

  /** Releases the keys held down from the menu. */
  releaseHeld() {
    for (const k of this.held) this.hold(k, false);
  }

  #key(k: Key, down: boolean) {
    this.#viewer?.sendKey(k.keysym, k.code, down);
  }
}
