import { devices, type CDPSession, type Page } from "@playwright/test";
import { keyboard, screen, settled, terminal } from "./desktop";
import { accessible, expect, firstDesktop, signUp, test } from "./fixtures";

/** Does what browsers report of keyboards and input methods. */
class Keys {
  readonly #session: CDPSession;

  private constructor(session: CDPSession) {
    this.#session = session;
  }

  static async of(page: Page) {
    return new Keys(await page.context().newCDPSession(page));
  }

  async down(code: string, key: string, keyCode: number, text?: string) {
    const press = { code, key, windowsVirtualKeyCode: keyCode, ...(text ? { text } : {}) };
    await this.#session.send("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", ...press });
  }

  async up(code: string, key: string, keyCode: number) {
    await this.#session.send("Input.dispatchKeyEvent", { type: "keyUp", code, key, windowsVirtualKeyCode: keyCode });
  }

  async press(code: string, key: string, keyCode: number) {
    await this.down(code, key, keyCode, key.length === 1 ? key : undefined);
    await this.up(code, key, keyCode);
  }

  async composing(text: string) {
    const caret = text.length;
    await this.#session.send("Input.imeSetComposition", { text, selectionStart: caret, selectionEnd: caret });
  }

  async insert(text: string) {
    await this.#session.send("Input.insertText", { text });
  }

  /** AltGr with a key, as Linux reports it. */
  async altGr(code: string, key: string, keyCode: number) {
    await this.down("AltRight", "AltGraph", 225);
    await this.press(code, key, keyCode);
    await this.up("AltRight", "AltGraph", 225);
  }

  /** A dead key and the key that completes it. */
  async dead(system: "linux" | "mac" | "windows", dead: string, code: string, key: string, text: string) {
    await this.down(dead, system === "linux" ? "Process" : "Dead", system === "windows" ? 220 : 229);
    if (system !== "windows") await this.composing("^");
    await this.up(dead, "Dead", 220);
    if (system === "windows") {
      await this.down(code, key, key.toUpperCase().charCodeAt(0));
      await this.#session.send("Input.dispatchKeyEvent", { type: "char", code, key, text });
    } else {
      await this.down(code, system === "linux" ? "Process" : key, 229);
      await this.insert(text);
    }
    await this.up(code, key, key.toUpperCase().charCodeAt(0));
  }
}

test("a phone's keyboard types what was typed", async ({ browser, server }, info) => {
  const { defaultBrowserType: _, ...pixel } = devices["Pixel 7"]!;
  const phone = await browser.newContext({ ...pixel, baseURL: server.url });
  const page = await phone.newPage();
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const typed = await terminal(page, "cat");
  await expect(keyboard(page)).toHaveAttribute("inputmode", "none"); // a tap on the screen opens no keyboard
  await page.getByRole("button", { name: "On-screen keyboard" }).tap();
  await expect(keyboard(page)).toBeFocused();
  await expect(keyboard(page)).toHaveAttribute("inputmode", "text");
  await accessible(page, "the on-screen keyboard");
  await page.screenshot({ path: "artifacts/phone-keyboard.png" });

  const keys = await Keys.of(page);
  const strip = page.getByRole("group", { name: "More keys" });
  const tap = (name: string) => strip.getByRole("button", { name, exact: true }).tap();
  for (const part of ["t", "te", "teh"]) await keys.composing(part);
  await keys.insert("the"); // corrected
  await keys.insert(" ");
  await keys.insert("swiped "); // a word at once
  await page.keyboard.press("Backspace");
  await keys.insert("👍");
  await page.keyboard.press("Enter");
  let want = "teh\x7f\x7fhe swiped \x7f👍\n";
  await expect.poll(typed.read).toBe(want);
  await tap("Ctrl");
  await expect(strip.getByRole("button", { name: "Ctrl" })).toHaveAttribute("aria-pressed", "true");
  await keys.composing("a");
  await expect(strip.getByRole("button", { name: "Ctrl" })).toHaveAttribute("aria-pressed", "false");
  await keys.insert("b");
  for (const key of ["Left", "Up", "Down", "Right", "Tab", "Esc"]) await tap(key);
  want += "\x01b\x1b[D\x1b[A\x1b[B\x1b[C\t\x1b";
  await expect.poll(typed.read).toBe(want);
  await screen(page).tap({ position: { x: 20, y: 20 } });
  await expect(keyboard(page), "the keyboard stays after a tap on the screen").toBeFocused();
  await typed.remove();
  await phone.close();
});

// Linux's events are those of Chromium 156 with `setxkbmap de` and real keys.
const layouts: Record<string, { want: string; type: (keys: Keys) => Promise<void> }> = {
  de: {
    want: "ê^`@€ö",
    type: async (k) => {
      await k.dead("linux", "Backquote", "KeyE", "e", "ê");
      await k.dead("linux", "Backquote", "Space", " ", "^");
      await k.dead("windows", "Equal", "Space", " ", "`");
      await k.altGr("KeyQ", "@", 81);
      await k.altGr("KeyE", "€", 69);
      await k.press("Semicolon", "ö", 192);
    },
  },
  fr: {
    want: "ôñ@é2#3`",
    type: async (k) => {
      await k.dead("mac", "BracketLeft", "KeyO", "o", "ô");
      // No release of AltGr and its dead key arrives.
      await k.down("AltRight", "AltGraph", 225);
      await k.down("Digit2", "Dead", 50);
      await k.down("KeyN", "n", 229);
      await k.insert("ñ");
      await k.altGr("Digit0", "@", 48);
      await k.press("Digit2", "é", 50);
      await k.press("Digit2", "2", 50);
      await k.down("AltRight", "AltGraph", 225);
      await k.down("Digit3", "#", 51, "#");
      await k.press("Digit3", "3", 51);
      await k.dead("linux", "Digit7", "Space", " ", "`");
    },
  },
  es: {
    want: "áñ@ü~",
    type: async (k) => {
      await k.dead("windows", "Quote", "KeyA", "a", "á");
      await k.press("Semicolon", "ñ", 192);
      await k.altGr("Digit2", "@", 50);
      await k.dead("mac", "Quote", "KeyU", "u", "ü");
      await k.dead("linux", "Digit4", "Space", " ", "~");
    },
  },
  "us-intl": {
    want: "é'`éx^",
    type: async (k) => {
      await k.dead("linux", "Quote", "KeyE", "e", "é");
      await k.dead("windows", "Quote", "Space", " ", "'");
      await k.dead("linux", "Backquote", "Backquote", "`", "`");
      await k.altGr("KeyE", "é", 69);
      await k.press("KeyX", "x", 88);
      await k.dead("mac", "Digit6", "Space", " ", "^");
    },
  },
  "input methods": {
    want: "a你好 日本한글→b",
    type: async (k) => {
      await k.press("KeyA", "a", 65);
      for (const part of ["n", "ni", "nih", "nihao"]) await k.composing(part);
      await k.insert("你好");
      await k.press("Space", " ", 32);
      for (const part of ["に", "にほん", "日本"]) await k.composing(part);
      await k.insert("日本");
      await k.composing("하");
      await k.composing("한");
      await k.insert("한");
      await k.composing("글");
      await k.insert("글");
      await k.composing("abandoned");
      await k.composing("");
      await k.down("ControlRight", "Process", 229); // Compose on Linux; the first keys' releases are lost
      await k.composing("·");
      await k.down("Minus", "Process", 229);
      await k.composing("-");
      await k.down("Period", "Process", 229);
      await k.insert("→");
      await k.press("KeyB", "b", 66);
    },
  },
};

test("dead keys, AltGr and input methods type what they compose", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const typed = await terminal(page, "cat");
  const keys = await Keys.of(page);
  let want = "";
  for (const [name, { want: text, type }] of Object.entries(layouts)) {
    want += text;
    await type(keys);
    await expect.poll(typed.read, { message: name, timeout: 60_000 }).toBe(want);
  }
  await keys.composing("にほん");
  await expect(keyboard(page)).toHaveCSS("opacity", "1"); // the user sees what is not typed yet
  await accessible(page, "a composition");
  await page.screenshot({ path: "artifacts/composition.png" });
  await keys.composing("");
  await expect(keyboard(page)).toHaveCSS("opacity", "0");
  await typed.remove();
});

// Chromium without Android has no on-screen keyboard. What the page sees of one is emulated: its height.
test("the strip of keys goes with the phone's keyboard", async ({ browser, server }, info) => {
  const { defaultBrowserType: _, ...pixel } = devices["Pixel 7"]!;
  const phone = await browser.newContext({ ...pixel, baseURL: server.url });
  const page = await phone.newPage();
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const button = page.getByRole("button", { name: "On-screen keyboard" });
  const strip = page.getByRole("group", { name: "More keys" });
  const { width, height } = page.viewportSize()!;
  const open = async () => {
    await button.tap();
    await expect(keyboard(page)).toBeFocused();
    await expect(strip).toBeVisible();
    await expect(button).toHaveAttribute("aria-pressed", "true");
  };
  const gone = async () => {
    await expect(strip).toHaveCount(0);
    await expect(button).toHaveAttribute("aria-pressed", "false");
    await expect(keyboard(page)).toHaveAttribute("inputmode", "none");
  };

  // Android: the window shrinks, and Back lets it grow without a change of the focus.
  await open();
  await page.setViewportSize({ width, height: height - 300 });
  await expect.poll(() => page.evaluate(() => visualViewport!.height)).toBeLessThan(height - 290);
  await strip.getByRole("button", { name: "Ctrl" }).tap();
  await expect(strip.getByRole("button", { name: "Ctrl" })).toHaveAttribute("aria-pressed", "true");
  await expect(strip).toBeVisible();
  await page.setViewportSize({ width, height });
  await gone();
  await expect(page.getByRole("button", { name: /^Keys; / }), "Ctrl is up again").toHaveCount(0);

  // iOS: only the visible part shrinks, and its keyboard's button takes the focus away.
  await open();
  await page.evaluate(() => {
    Object.defineProperty(visualViewport, "height", { configurable: true, get: () => 400 });
    visualViewport!.dispatchEvent(new Event("resize"));
  });
  await expect(strip).toBeVisible();
  await page.evaluate(() => {
    delete (visualViewport as { height?: number }).height;
    visualViewport!.dispatchEvent(new Event("resize"));
  });
  await gone();
  await open();
  await keyboard(page).evaluate((field) => field.blur());
  await gone();

  // The keyboard types elsewhere.
  await open();
  await page.getByRole("button", { name: "Desktop tools" }).tap();
  await gone();
  await phone.close();
});
