// The first minute: one account, one desktop, one click, and an agent works on the screen.
import { atRest, changed, screen, settled } from "./desktop";
import { expect, firstDesktop, look, signUp, test } from "./fixtures";

test("the demo works on the desktop, and its picture stands in the chat", async ({ page }, info) => {
  test.slow();
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const before = await atRest(page);
  const width = await screen(page).evaluate((c) => (c as HTMLCanvasElement).width); // in Match, that of the panel
  await page.getByRole("button", { name: "Watch a demo on the desktop" }).click();
  await changed(page, before);

  const log = page.getByRole("log");
  const pictures = log.getByRole("img", { name: "The desktop" });
  const allow = page.getByRole("button", { name: "Allow once" }).first();
  await expect(allow).toBeVisible({ timeout: 60_000 });
  await expect(pictures).toHaveCount(1);
  expect(await pictures.evaluate((i) => (i as HTMLImageElement).naturalWidth)).toBe(width);
  await expect(page.getByRole("button", { name: "Jump to latest" })).toHaveCount(0);
  await allow.click();
  await expect(log).toContainText("hello-from-cloudbot.txt is yours", { timeout: 60_000 });
  await expect(log).toContainText("no model read your message");
  await expect(pictures).toHaveCount(2);
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });
  await expect(page.getByRole("button", { name: "Jump to latest" })).toHaveCount(0);
  await look(page, "demo-done");
  await page.reload();
  await expect(pictures).toHaveCount(2);
  expect(await pictures.last().evaluate((i) => (i as HTMLImageElement).naturalWidth)).toBe(width);
});
