import { randomUUID } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, type Page } from "@playwright/test";

/** The screen of the open workspace. */
export const screen = (page: Page) => page.locator(".cloudbot-desktop canvas").first();

/** The field that has the focus while the desktop is in use. */
export const keyboard = (page: Page) => page.locator(".cloudbot-desktop .cloudbot-keys");

/** The screen's pixels, as a picture that can be compared. */
export const pixels = (page: Page) => screen(page).evaluate((c) => (c as HTMLCanvasElement).toDataURL());

/** Waits until the screen differs from before. */
export async function changed(page: Page, before: string) {
  await expect.poll(async () => (await pixels(page)) !== before, { timeout: 60_000 }).toBe(true);
}

/** Waits until the desktop's terminal is visible and the screen has stopped changing. */
export async function settled(page: Page) {
  await expect(page.getByText(/^(Connected|\d+ × \d+$)/)).toBeVisible({ timeout: 60_000 });
  // The terminal is dark and the background is not: the terminal covers the middle of the screen.
  await expect
    .poll(
      () =>
        screen(page).evaluate((c) => {
          const canvas = c as HTMLCanvasElement;
          const d = canvas
            .getContext("2d")!
            .getImageData(Math.floor(canvas.width * 0.4), Math.floor(canvas.height * 0.6), 1, 1).data;
          return d[0]! + d[1]! + d[2]! < 96;
        }),
      { timeout: 60_000 },
    )
    .toBe(true);
}

/**
 * Returns the position within the canvas of a point of the terminal's first line. A terminal that opened before the screen
 * had its size does not fill it.
 */
export const firstLine = (page: Page) =>
  screen(page).evaluate((c) => {
    const { width, height } = c as HTMLCanvasElement;
    const { data } = (c as HTMLCanvasElement).getContext("2d")!.getImageData(0, 0, width, height);
    const colour = (x: number, y: number) => data.slice((y * width + x) * 4, (y * width + x) * 4 + 3);
    const middle = { x: Math.floor(width * 0.4), y: Math.floor(height * 0.6) };
    const dark = colour(middle.x, middle.y);
    const inside = (x: number, y: number) =>
      colour(x, y).reduce((sum, part, i) => sum + Math.abs(part - dark[i]!), 0) < 30; // the picture may be lossy
    let top = 0;
    while (top < middle.y && !(inside(middle.x, top) && inside(middle.x, top + 2))) top++;
    let left = middle.x;
    while (left > 0 && inside(left - 1, top + 2)) left--;
    const shown = c.getBoundingClientRect();
    return { x: ((left + 60) / width) * shown.width, y: ((top + 15) / height) * shown.height };
  });

/** Waits until the screen has not changed for a second. */
export async function atRest(page: Page): Promise<string> {
  let last = "";
  await expect
    .poll(
      async () => {
        const before = last;
        last = await pixels(page);
        return last === before;
      },
      { intervals: [1_000], timeout: 60_000 },
    )
    .toBe(true);
  return last;
}

/** A terminal of the desktop that writes what it reads to a file. */
export async function terminal(page: Page, command: string) {
  const file = join(tmpdir(), `cloudbot-typed-${randomUUID()}`);
  await screen(page).click();
  await page.keyboard.type(`stty -echo -icanon; : > ${file}; ${command} > ${file}`);
  await page.keyboard.press("Enter");
  const read = () => readFile(file, "utf8").catch(() => undefined);
  await expect.poll(read, { timeout: 60_000 }).toBe("");
  return { read, remove: () => rm(file, { force: true }) };
}
