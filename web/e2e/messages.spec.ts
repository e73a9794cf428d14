// What a user does with messages: retry, copy, search, export.
import { readFileSync } from "node:fs";
import type { Page } from "@playwright/test";
import { expect, firstDesktop, look, signUp, test } from "./fixtures";
import { Agent } from "./gateway";

const soon = { timeout: 60_000 };
const log = (page: Page) => page.getByRole("log");
const stop = (page: Page) => page.getByRole("button", { name: "Stop", exact: true });
const say = async (page: Page, text: string) => {
  const message = page.getByRole("textbox", { name: "Message to the agent" });
  await message.fill(text);
  await message.press("Enter");
};
const choose = async (page: Page, item: string) => {
  await page.getByRole("button", { name: "More actions for this chat" }).click();
  await page.getByRole("menuitem", { name: item }).click();
};

test("an answer is copied, a failed one is retried, and a chat is searched and exported", async ({ page }, info) => {
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  await say(page, "/markdown");
  const copy = page.getByRole("button", { name: "Copy this answer" });
  await expect(copy).toHaveCount(1, soon);
  await expect(stop(page)).toHaveCount(0, soon);
  await copy.focus();
  // The button says so for two seconds, which on a busy computer may pass between two looks of expect.
  const said = page.waitForFunction(() => document.querySelector("[role=log]")?.textContent?.includes("Copied"));
  await page.keyboard.press("Enter");
  await said;
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  expect(copied).toContain("## What Markdown looks like");
  expect(copied).toContain("**strong**");

  await say(page, "/error");
  const retry = page.getByRole("button", { name: /^Retry/ });
  await expect(retry).toBeVisible(soon);
  await retry.focus();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("textbox", { name: "Message to the agent" })).toBeFocused();
  await expect(log(page).getByText("/error", { exact: true })).toHaveCount(2, soon);
  await expect(log(page).getByText("answered 529")).toHaveCount(2, soon);
  await expect(retry).toHaveCount(2, soon);
  await say(page, "/slow");
  await expect(log(page)).toContainText("This is sentence 2 of", soon);
  await expect(retry).toHaveCount(0);
  await stop(page).click();
  await expect(stop(page)).toHaveCount(0, soon);
  await expect(log(page).locator("time[datetime][title]")).not.toHaveCount(0);
  await expect(log(page).getByText(String(new Date().getFullYear()))).toHaveCount(1);
  await look(page, "chat-retry");

  await choose(page, "Search…");
  const field = page.getByRole("searchbox", { name: "Search in this chat" });
  await expect(field).toBeFocused();
  const search = page.getByRole("search", { name: "This chat" });
  await field.fill("answered 529");
  await expect(search.getByRole("status")).toHaveText("2 of 2");
  await field.press("Enter");
  await expect(search.getByRole("status")).toHaveText("1 of 2");
  await search.getByRole("button", { name: "Next match" }).click();
  await expect(search.getByRole("status")).toHaveText("2 of 2");
  const marks = () => page.evaluate(() => ["found", "found-here"].map((n) => CSS.highlights.get(n)?.size ?? 0));
  expect(await marks()).toEqual([1, 1]);
  // A text with strong words is found, too, and shown where it is.
  await field.fill("with strong words");
  await expect(search.getByRole("status")).toHaveText("1 of 1");
  await expect(log(page).getByText("What Markdown looks like")).toBeInViewport(soon);
  await look(page, "chat-search");
  await field.fill("nothing of the kind");
  await expect(search.getByRole("status")).toHaveText("No matches");
  await field.press("Escape");
  await expect(search).toHaveCount(0);
  expect(await marks()).toEqual([0, 0]);
  await expect(page.getByRole("textbox", { name: "Message to the agent" })).toBeFocused();

  await choose(page, "Export as Markdown…");
  const dialog = page.getByRole("dialog", { name: "Export this chat as Markdown" });
  await expect(dialog.getByText(/messages are ready/)).toBeVisible(soon);
  await look(page, "chat-export");
  const [download] = await Promise.all([page.waitForEvent("download"), dialog.getByText("Save file").click()]);
  expect(download.suggestedFilename()).toMatch(/^My desktop - .+ - \d{4}-\d\d-\d\d\.md$/);
  const text = readFileSync(await download.path(), "utf8");
  expect(text).toMatch(
    /## You · .*\/markdown.*## The agent · .*What Markdown looks like.*## Error · .*answered 529.*## Error · .*This answer was stopped/s,
  );
});

test("a search finds earlier messages on request, and an export has them all", async ({ page }, info) => {
  await Agent.of(page, 250);
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  await expect(log(page)).toContainText("249", soon);
  await choose(page, "Search…");
  const field = page.getByRole("searchbox", { name: "Search in this chat" });
  const search = page.getByRole("search", { name: "This chat" });
  await field.fill("42");
  await expect(search.getByRole("status")).toHaveText("1 of 1"); // 242
  await search.getByRole("button", { name: "Search earlier messages" }).click();
  await expect(search.getByRole("status")).toHaveText("1 of 2");
  await expect(log(page).getByText("142", { exact: true })).toBeInViewport(soon);
  await search.getByRole("button", { name: "Search earlier messages" }).click();
  await expect(log(page).getByText("42", { exact: true })).toBeInViewport(soon);
  await expect(search.getByRole("button", { name: "Search earlier messages" })).toHaveCount(0);
  await field.press("Escape");
  await choose(page, "Export as Markdown…");
  await expect(page.getByText("250 messages are ready")).toBeVisible(soon);
});
