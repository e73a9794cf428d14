import { expect, firstDesktop, look, signUp, test } from "./fixtures";
import type { Page } from "@playwright/test";

const say = async (page: Page, text: string) => {
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill(text);
  await message.press("Enter");
};

test("what an agent does besides talking", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  const log = page.getByRole("log");

  // Tools, as they happen.
  await say(page, "/tool");
  await expect(log.getByText("done", { exact: false }).first()).toBeVisible({ timeout: 20_000 });
  await expect(log.getByText("failed", { exact: false }).first()).toBeVisible();
  await expect(log).toContainText("Nothing was run");

  // It asks before it acts; the answer is given in place.
  await say(page, "/approve");
  await expect(page.getByRole("button", { name: "Allow once" })).toBeVisible({ timeout: 20_000 });
  await look(page, "chat-approval");
  await page.getByRole("button", { name: "Allow once" }).click();
  await expect(page.getByRole("button", { name: "Allow once" })).toHaveCount(0);
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 20_000 });

  // It asks what is meant.
  await say(page, "/ask");
  await expect(page.getByRole("radio").nth(3)).toBeVisible({ timeout: 20_000 });
  await look(page, "chat-question");
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 20_000 });

  // A long answer is stopped for real, and stays stopped after a reload.
  await say(page, "/slow");
  await expect(page.getByRole("button", { name: "Stop" })).toBeVisible();
  await expect(log).toContainText(/\w+ \w+ \w+/);
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 20_000 });
  await say(page, "/markdown");
  await expect(log.locator("pre code").first()).toBeVisible({ timeout: 20_000 });
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 20_000 });
  await page.reload();
  await expect(log.locator("pre code").first()).toBeVisible({ timeout: 20_000 });
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0);
  await look(page, "chat-markdown");
});

test("chats are begun, renamed, switched and deleted", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  const log = page.getByRole("log");
  await say(page, "the first chat");
  await expect(log).toContainText("You said: “the first chat”", { timeout: 20_000 });
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 20_000 });

  await page.getByRole("button", { name: /^New chat/ }).click();
  await expect(log).not.toContainText("the first chat");
  await say(page, "the second chat");
  await expect(log).toContainText("You said: “the second chat”", { timeout: 20_000 });
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 20_000 });

  await page.getByRole("button", { name: "More about this chat" }).click();
  await page.getByRole("menuitem", { name: "Rename…" }).click();
  await page.getByRole("textbox", { name: "Name" }).fill("Second thoughts");
  await page.keyboard.press("Enter");
  const chooser = page.getByRole("button", { name: /^Chat: / });
  await expect(chooser).toHaveText("Second thoughts");

  await chooser.click();
  await page.getByRole("menuitemradio", { name: /^Main/ }).click();
  await expect(log).toContainText("the first chat");
  await expect(log).not.toContainText("the second chat");
  await chooser.click();
  await page.getByRole("menuitemradio", { name: /^Second thoughts/ }).click();
  await expect(log).toContainText("the second chat");

  await page.getByRole("button", { name: "More about this chat" }).click();
  await page.getByRole("menuitem", { name: "Delete…" }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Delete" }).click();
  await expect(log).toContainText("the first chat");
  await chooser.click();
  await expect(page.getByRole("menuitemradio", { name: /^Second thoughts/ })).toHaveCount(0);
});
