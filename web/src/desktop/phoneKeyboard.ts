// The device's own on-screen keyboard. A page sees only the height that it takes, and the focus of the field it types in.

const leastHeight = 120; // CSS pixels; the browser's bars, which come and go too, are lower

export type Visible = { width: number; height: number };

/** The part of the page above the keyboard, whatever the user's zoom. */
function visible(): Visible {
  const v = visualViewport;
  return v
    ? { width: Math.round(v.width * v.scale), height: v.height * v.scale }
    : { width: innerWidth, height: innerHeight };
}

/** Follows the visible height, from before the keyboard opens. */
export class KeyboardHeight {
  #now: Visible;

  constructor(now: Visible) {
    this.#now = now;
  }

  /** Reports whether a keyboard was there and has gone. */
  gone(now: Visible): boolean {
    if (now.width !== this.#now.width || now.height < this.#now.height) this.#now = now; // turned, or the keyboard opened
    return now.height >= this.#now.height + leastHeight;
  }
}

/** Calls gone when the keyboard goes or types elsewhere than in field, until the returned function is called. */
export function onKeyboardGone(field: HTMLElement, strip: HTMLElement, gone: () => void): () => void {
  const end = new AbortController();
  const { signal } = end;
  const height = new KeyboardHeight(visible());
  visualViewport?.addEventListener("resize", () => height.gone(visible()) && gone(), { signal });
  let timer: ReturnType<typeof setTimeout>;
  const check = () => {
    clearTimeout(timer);
    // A field that moves within the page loses the focus and gets it back.
    timer = setTimeout(() => {
      const here = document.activeElement;
      if (here !== field && !strip.contains(here)) gone();
    });
  };
  field.addEventListener("focusout", check, { signal });
  strip.addEventListener("focusout", check, { signal });
  check();
  return () => {
    clearTimeout(timer);
    end.abort();
  };
}
