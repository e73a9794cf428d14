// The text field that has the keyboard while a desktop is in use. noVNC gets ordinary keys. What needs a text field stays
// with the browser: dead keys, Compose, input methods and on-screen keyboards. The text that comes of it is typed.
import type { Keyboard } from "./keyboard";

// Text to delete: on-screen keyboards report a deletion only by the missing text. It ends without a word that a
// keyboard would go on with, and each word is short, because keyboards delete whole words too.
const filler = "_ ".repeat(32);
const longest = 512;

const modifier = /^(Shift|Control|Alt|Meta|OS|CapsLock|NumLock|Fn)/;

type Press = Pick<KeyboardEvent, "key" | "code" | "keyCode" | "isComposing" | "ctrlKey" | "altKey" | "metaKey">;

export class TextField {
  readonly element = document.createElement("textarea");
  readonly #keyboard: Keyboard;
  #before = "";
  #onScreen = false;
  #composing = false;
  #dead = false; // the next key completes a dead key
  #coarse = matchMedia("(pointer: coarse)").matches;

  /** Listens until the signal is aborted. */
  constructor(keyboard: Keyboard, signal: AbortSignal) {
    this.#keyboard = keyboard;
    const { element } = this;
    element.className = "cloudbot-keys";
    element.rows = 1;
    const attributes = { autocapitalize: "off", autocomplete: "off", autocorrect: "off", spellcheck: "false" };
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    Object.assign(element.style, {
      position: "absolute",
      left: "0",
      top: "0",
      zIndex: "1",
      padding: "0 2px",
      border: "0",
      outline: "none",
      resize: "none",
      overflow: "hidden",
      whiteSpace: "pre",
      pointerEvents: "none",
      font: "16px sans-serif", // a phone zooms into smaller text
      background: "Canvas",
      color: "CanvasText",
    });
    this.#show(false);
    this.setOnScreen(false);
    element.addEventListener("input", (e) => this.#input((e as InputEvent).isComposing), { signal });
    element.addEventListener(
      "compositionstart",
      () => {
        this.#composing = true;
        this.#show(!this.#onScreen); // an on-screen keyboard's text is on the desktop already
      },
      { signal },
    );
    element.addEventListener("compositionend", () => this.#composed(), { signal });
    element.addEventListener("blur", () => this.settle(), { signal });
  }

  /** Sets whether an on-screen keyboard types. A device with a touch screen shows it only then. */
  setOnScreen(on: boolean) {
    this.#onScreen = on;
    this.element.inputMode = this.#coarse && !on ? "none" : "text";
    this.settle();
  }

  /** Says what the field is, and whether it takes text. */
  describe(label: string, readOnly: boolean) {
    this.element.setAttribute("aria-label", label);
    this.element.readOnly = readOnly;
  }

  /** Moves the field, and with it the window of an input method, to where the user clicked. */
  move(x: number, y: number) {
    Object.assign(this.element.style, { left: `${Math.max(0, x)}px`, top: `${Math.max(0, y)}px` });
  }

  /**
   * Reports whether the browser makes text of this key. Other keys are the desktop's. After them the cursor is
   * elsewhere, so what was typed before is forgotten.
   */
  takes(e: Press): boolean {
    const held = modifier.test(e.key);
    const afterDead = this.#dead;
    if (!held) this.#dead = false;
    const shortcut = e.metaKey || e.ctrlKey !== e.altKey; // both: AltGr of Windows
    if (e.key === "Dead") this.#dead = !shortcut || e.altKey;
    if (e.key === "Dead" || e.key === "Compose" || e.isComposing || e.keyCode === 229) return true;
    if (held) return false;
    const text = e.key === "Backspace" || ([...e.key].length === 1 && !shortcut);
    if (text && (afterDead || this.#onScreen)) return true;
    this.settle();
    return false;
  }

  /** Types what is not typed yet, and forgets it. */
  settle() {
    this.#type();
    this.#composing = this.#dead = false;
    this.#show(false);
    this.#reset();
  }

  #composed() {
    this.#composing = false;
    this.#show(false);
    this.#type();
    // Some input methods begin the next composition at once, and need the text until then.
    setTimeout(() => this.#composing || this.#onScreen || this.#reset());
  }

  #input(composing: boolean) {
    if (composing && !this.#onScreen) return; // it may become something else
    const combined = this.#type();
    const { length } = this.element.value;
    if (combined || (!composing && (!this.#onScreen || length < 8 || length > longest))) this.#reset();
  }

  /** Types what changed. Reports whether it was combined with held keys, and is no text then. */
  #type(): boolean {
    const before = this.#before;
    this.#before = this.element.value;
    return before !== this.#before && this.#keyboard.typed(before, this.#before);
  }

  #reset() {
    const { element } = this;
    this.#before = this.#onScreen ? filler : "";
    if (element.value === this.#before && element.selectionStart === this.#before.length) return;
    element.value = this.#before;
    element.setSelectionRange(this.#before.length, this.#before.length); // some browsers keep it at the start
  }

  #show(on: boolean) {
    Object.assign(this.element.style, { opacity: on ? "1" : "0", width: on ? "12rem" : "2px" });
  }
}
