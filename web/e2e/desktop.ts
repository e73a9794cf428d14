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

/** Returns the position within the canvas of a point of the remote screen. */
export async function at(page: Page, x: number, y: number) {
  const [box, size] = await Promise.all([
    screen(page).boundingBox(),
    screen(page).evaluate((c) => [(c as HTMLCanvasElement).width, (c as HTMLCanvasElement).height]),
  ]);
  return { x: (x / size[0]!) * box!.width, y: (y / size[1]!) * box!.height };
}

/** The terminal's first line, in pixels of the remote screen. In Match, the terminal fills a screen of this size. */
export const firstLine = { x: 60, y: 40 };

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
