// What the user does on the desktop's element with the keyboard, the pointer and the clipboard.
import type { ClipboardSync } from "./clipboard";
import type { Keyboard } from "./keyboard";
import { keysymOf, letterOf, meansControl, pastes, WayOut, type Key } from "./keys";
import type { TextField } from "./field";
import { PasteKey } from "./paste";

/** What the user did: "act" is a click, a key or the wheel. */
export type Use = "move" | "act";

export interface InputConfig {
  element: HTMLElement;
  keyboard: Keyboard;
  /** Within element. */
  field: TextField;
  clipboard: ClipboardSync;
  /** Reports whether the user may control the desktop, not only view it. */
  controls: () => boolean;
  /** The user pressed a key or button on the desktop. */
  onWork: () => void;
  /** The user moved the pointer over the desktop, or did more than that. */
  onUse: (use: Use) => void;
  onFocus: (focused: boolean) => void;
  /** The user pressed the keys that lead out of the desktop. */
  onLeave: () => void;
}

const isMac = /Mac|iPhone|iPad|iPod/.test(navigator.platform);
const v: Key = { name: "", code: "KeyV", keysym: 0x76 };

/**
 * release ends noVNC's capture of the mouse with the button's release. In full screen, the element that noVNC lays over
 * the page for it is inert: noVNC would miss the release, take movements over other elements, and cover the page later.
 */
function release(e: MouseEvent) {
  const capture = document.getElementById("noVNC_mouse_capture_elem");
  if (e.buttons === 0 && capture?.style.display === "") capture.dispatchEvent(new MouseEvent("mouseup", e));
}

export class Input {
  readonly #config: InputConfig;
  #focused = false;
  #wayOut = new WayOut();
  #paste: PasteKey;

  /** Listens until the signal is aborted. */
  constructor(config: InputConfig, signal: AbortSignal) {
    this.#config = config;
    const { keyboard } = config;
    // Without ⌘ the modifiers are down already.
    this.#paste = new PasteKey((key) => (isMac ? keyboard.tapWithControl(key) : keyboard.tap(key)));
    this.#listen(signal);
  }

  get focused(): boolean {
    return this.#focused;
  }

  /** The desktop fetched the text that the clipboard offered. */
  textTaken() {
    this.#paste.textTaken();
  }

  /** A desktop without a connection has no focus to give keys to. */
  disconnected() {
    this.#focused = false;
  }

  #listen(signal: AbortSignal) {
    const { element, keyboard, clipboard } = this.#config;
    const on = { capture: true, signal };
    element.addEventListener("keydown", (e) => this.#keyDown(e), on);
    element.addEventListener("keyup", (e) => this.#keyUp(e), on);
    element.addEventListener("pointerdown", (e) => this.#pointed(e), on);
    element.addEventListener("mouseup", (e) => setTimeout(() => release(e)), on); // after noVNC's own listener
    element.addEventListener("pointermove", () => this.#used("move"), on);
    element.addEventListener("wheel", () => this.#used("act"), { ...on, passive: true });
    element.addEventListener(
      "focusin",
      () => {
        this.#setFocused(true);
        void clipboard.focused();
      },
      on,
    );
    element.addEventListener(
      "focusout",
      () => {
        keyboard.releasePressed();
        this.#wayOut.reset();
        this.#setFocused(false);
      },
      on,
    );
    document.addEventListener("paste", (e) => this.#pasted(e), on);
    window.addEventListener("focus", () => this.#focused && void clipboard.focused(), { signal });
    window.addEventListener(
      "blur",
      () => {
        // Keys released in another window would stay pressed on the desktop.
        keyboard.releasePressed();
        keyboard.releaseHeld();
        this.#wayOut.reset();
      },
      { signal },
    );
  }

  #setFocused(focused: boolean) {
    this.#focused = focused;
    this.#config.onFocus(focused);
  }

  #worked(use: Use = "act") {
    if (!this.#config.controls()) return;
    void this.#config.clipboard.gesture();
    this.#config.onWork();
    this.#used(use);
  }

  #used(use: Use) {
    if (this.#config.controls()) this.#config.onUse(use);
  }

  #keyDown(e: KeyboardEvent) {
    this.#wayOut.press(e.code);
    if (!this.#config.controls()) return;
    this.#paste.finish(); // before any later key
    this.#worked(/^(Control|Alt|Shift|Meta)/.test(e.code) ? "move" : "act"); // a modifier may lead out of the desktop
    if (pastes(e, isMac)) {
      // Hidden from noVNC, which would keep the browser from pasting. The key follows the text.
      e.stopPropagation();
      this.#paste.wait({ name: "", code: e.code, keysym: e.code === "Insert" ? 0xff63 : e.shiftKey ? 0x56 : 0x76 });
    } else if (meansControl(e, isMac)) {
      e.stopPropagation();
      e.preventDefault();
      this.#config.keyboard.tapWithControl({ name: "", code: e.code, keysym: keysymOf(letterOf(e)) });
    } else if (e.target === this.#config.field.element && this.#config.field.takes(e)) {
      e.stopPropagation(); // noVNC would keep the browser from making text of it
    } else {
      this.#config.keyboard.pressed(e);
    }
  }

  #pointed(e: PointerEvent) {
    const { element, field, controls } = this.#config;
    const { left, top } = element.getBoundingClientRect();
    if (controls()) field.settle(); // the cursor goes elsewhere
    field.move(e.clientX - left, e.clientY - top);
    this.#worked();
  }

  #keyUp(e: KeyboardEvent) {
    if (e.code !== this.#paste.key?.code) this.#paste.finish(); // while its modifiers are down
    if (!this.#wayOut.release(e.code)) return;
    this.#config.keyboard.releasePressed();
    this.#config.onLeave();
  }

  #pasted(e: ClipboardEvent) {
    const { clipboard, controls, keyboard } = this.#config;
    if (!this.#focused || !controls()) return;
    e.preventDefault();
    e.stopPropagation();
    const sent = clipboard.send(e.clipboardData?.getData("text/plain") ?? "");
    if (sent === "long")
      this.#paste.drop(); // the key would paste the text from before
    else if (this.#paste.key && sent === "sent") this.#paste.textSent();
    else if (this.#paste.key) this.#paste.finish();
    else keyboard.tapWithControl(v); // from the browser's menu
  }
}
