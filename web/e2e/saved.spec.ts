import { expect, firstDesktop, look, signUp, stopDesktop, test } from "./fixtures";
import type { Page } from "@playwright/test";

const say = async (page: Page, text: string) => {
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill(text);
  await message.press("Enter");
};

test("a stopped desktop's chat can be read", async ({ page }, info) => {
  test.setTimeout(180_000);
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  const log = page.getByRole("log");
  await say(page, "what is kept");
  await expect(log).toContainText("You said: “what is kept”", { timeout: 60_000 });
  await say(page, "/error");
  const failed = log.getByText("answered 529: overloaded", { exact: false });
  await expect(failed).toBeVisible({ timeout: 60_000 });
  await page.getByRole("button", { name: /^New chat/ }).click();
  await say(page, "another chat");
  await expect(log).toContainText("You said: “another chat”", { timeout: 60_000 });
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });

  // Stopped: the open chat goes on to be shown, as it was saved.
  const id = /desktops\/([0-9A-Z]{26})/.exec(page.url())![1]!;
  await stopDesktop(page);
  const saved = page.getByRole("region", { name: "Saved chat" });
  await expect(saved).toContainText("Start the desktop to continue.", { timeout: 60_000 });
  await expect(log).toContainText("You said: “another chat”");
  await page.getByRole("button", { name: /^Chat: another chat/ }).click();
  await page.getByRole("menuitemradio", { name: /^Main/ }).click();
  await expect(log).toContainText("You said: “what is kept”");
  await expect(page.getByRole("textbox")).toHaveCount(0);

  // After a reload, and from the page of the stopped desktop.
  await page.reload();
  await expect(log).toContainText("You said: “what is kept”");
  await expect(failed).toBeVisible();
  await look(page, "saved-chat");
  await saved.getByRole("button", { name: "Back" }).click();
  await expect(page.getByRole("heading", { name: "This desktop is stopped" })).toBeVisible();
  await look(page, "saved-chat-stopped");
  await page.goto(`/app/desktops/${id}`);
  await page.getByRole("link", { name: "Read the chat" }).click();
  await expect(log).toContainText("You said: “what is kept”");

  // The live chat is back after a start.
  await saved.getByRole("button", { name: "Start" }).click();
  await expect(page.getByRole("textbox", { name: /message/i })).toBeVisible({ timeout: 60_000 });
  await expect(log).toContainText("You said: “what is kept”", { timeout: 60_000 });
  await expect(failed).toBeVisible();
  await say(page, "and it goes on");
  await expect(log).toContainText("You said: “and it goes on”", { timeout: 60_000 });
});

test("a desktop whose chat was not saved says so", async ({ page }, info) => {
  await page.route("**/api/instances/*/chat", (route) =>
    route.fulfill({
      status: 404,
      contentType: "application/problem+json",
      body: JSON.stringify({ status: 404, code: "no_saved_chat", detail: "No chat of this desktop is saved." }),
    }),
  );
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("button", { name: /^More actions for My desktop/ }).click();
  await page.getByRole("menuitem", { name: "Stop" }).click();
  await page.getByRole("link", { name: "Read the chat" }).click({ timeout: 60_000 });
  await expect(page.getByRole("heading", { name: "No chat is saved" })).toBeVisible();
  await look(page, "saved-chat-none");
  await page.getByRole("button", { name: "Back" }).click();
  await expect(page.getByRole("heading", { name: "This desktop is stopped" })).toBeVisible();
});
