import type { Key } from "./keys";

const pasteEventWithin = 60; // ms after the key; a browser that fires no event has no text for the desktop
const takenWithin = 100; // ms; a server that fetches the text only when a program asks for it needs no wait

/** PasteKey holds back the key that pastes until the desktop has the text, then presses it. */
export class PasteKey {
  #pending: { key: Key; timer: ReturnType<typeof setTimeout>; sent: boolean } | undefined;
  readonly #press: (key: Key) => void;

  constructor(press: (key: Key) => void) {
    this.#press = press;
  }

  /** The key held back. */
  get key(): Key | undefined {
    return this.#pending?.key;
  }

  /** Waits for the browser's paste event. */
  wait(key: Key) {
    this.#arm(key, false);
  }

  /** The text was sent: waits until the desktop has fetched it. */
  textSent() {
    if (this.#pending) this.#arm(this.#pending.key, true);
  }

  /** The desktop fetched the text. */
  textTaken() {
    if (this.#pending?.sent) this.finish();
  }

  drop() {
    clearTimeout(this.#pending?.timer);
    this.#pending = undefined;
  }

  finish() {
    const key = this.#pending?.key;
    this.drop();
    if (key) this.#press(key);
  }

  #arm(key: Key, sent: boolean) {
    this.drop();
    this.#pending = { key, sent, timer: setTimeout(() => this.finish(), sent ? takenWithin : pasteEventWithin) };
  }
}
