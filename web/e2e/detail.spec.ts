import type { Page } from "@playwright/test";
import { settled } from "./desktop";
import { expect, firstDesktop, signUp, test } from "./fixtures";

// Xvnc would send a picture with less detail a second time, and the second one is larger than any first one.
test("a slow connection gets fewer bytes than the best detail, also once the screen is at rest", async ({
  page,
}, info) => {
  let bytes = 0;
  page.on("websocket", (socket) => {
    if (socket.url().includes("/vnc")) socket.on("framereceived", (f) => (bytes += f.payload.length));
  });
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const choose = async (quality: RegExp) => {
    await page.getByRole("button", { name: /^Screen/ }).click();
    await page.getByRole("menuitemradio", { name: quality }).click();
    await page.keyboard.press("Escape");
  };
  /** Connects again and returns what arrives until five seconds pass almost without data. */
  const picture = async (on: Page) => {
    await on.reload();
    bytes = 0;
    await settled(on);
    let last = -1e6;
    await expect
      .poll(
        () => {
          const more = bytes - last;
          last = bytes;
          return more;
        },
        { intervals: [5_000], timeout: 90_000 },
      )
      .toBeLessThan(1_000);
    return bytes;
  };
  await choose(/^Best/);
  const best = await picture(page);
  await choose(/^Slow connection/);
  const slow = await picture(page);
  expect(slow).toBeLessThan(best / 2);
});
