// Each state has a way forward, on every page that shows it.
import type { Page } from "@playwright/test";
import { expect, firstDesktop, look, signUp, test } from "./fixtures";

const start = (page: Page) => page.getByRole("button", { name: "Start My desktop" });
const slow = { timeout: 90_000 };

test("stop asks only while the agent works, and a stopped desktop starts from each page", async ({ page }, info) => {
  await signUp(page, info);
  const id = await firstDesktop(page);
  const message = page.getByRole("textbox", { name: "Message" });
  await message.fill("/approve");
  await message.press("Enter");
  await expect(page.getByRole("button", { name: "Allow once" }).first()).toBeVisible(slow);
  await page.goto("/app/");
  const card = page.getByRole("article", { name: "My desktop" });
  await expect(card.getByText("Waiting for your answer")).toBeVisible(slow);
  await expect(page.locator("body")).not.toContainText("t3.");
  await page.getByRole("button", { name: "Stop My desktop" }).click();
  const question = page.getByRole("alertdialog", { name: "Stop My desktop?" });
  await expect(question).toContainText("The agent is working in one chat.");
  await expect(question).toContainText("An action waits for your approval. It will be denied.");
  await look(page, "stop-asks");
  await question.getByRole("button", { name: "Cancel" }).click();
  await expect(card.getByText("Ready")).toBeVisible();
  await page.getByRole("button", { name: "Stop My desktop" }).click();
  await question.getByRole("button", { name: "Stop", exact: true }).click();
  await expect(start(page)).toBeEnabled(slow);

  // From the list; then nothing is interrupted, so nothing is asked.
  await start(page).click();
  await expect(card.getByText("Ready")).toBeVisible(slow);
  const stop = async () => {
    await page.goto("/app/");
    await page.getByRole("button", { name: "Stop My desktop" }).click(slow);
    await expect(page.getByRole("alertdialog")).toHaveCount(0);
    await expect(start(page)).toBeEnabled(slow);
  };
  for (const path of [`desktops/${id}`, `desktops/${id}/about`, `desktops/${id}/about?tab=diagnostics`]) {
    await stop();
    await page.goto(`/app/${path}`);
    if (path.endsWith("diagnostics")) {
      await expect(page.getByText("Diagnostics are available only while the machine is running.")).toBeVisible();
      await expect(start(page)).toHaveCount(2); // beside the name and beside the sentence
      await look(page, "diagnostics-stopped");
    }
    await start(page).last().click();
    await expect(start(page)).toHaveCount(0, slow);
    await page.goto("/app/");
    await expect(card.getByText("Ready")).toBeVisible(slow);
  }
});

test("diagnostics are sentences, with the raw reports behind buttons", async ({ page }, info) => {
  await signUp(page, info);
  const id = await firstDesktop(page);
  // One boot or a few say nothing about the next.
  await expect(page.getByText(/started here before|19 of 20/)).toHaveCount(0);
  await page.goto(`/app/desktops/${id}/about?tab=diagnostics`);
  await expect(page.getByText(/^[\d.]+ of [\d.]+ GB used$/)).toBeVisible(slow);
  await expect(page.getByText(/^[\d.]+ of [\d.]+ GB used, [\d.]+ GB free$/)).toBeVisible();
  await expect(page.getByText(/^Answers \(/)).toHaveCount(2);
  await expect(page.getByText("The server's own computer")).toBeVisible();
  await expect(page.locator("body")).not.toContainText("t3.");
  const log = page.getByRole("region", { name: "Log, text" });
  await expect(log).toContainText("guest started", slow);
  await expect(log).not.toContainText(/TigerVNC Team|VNC extension running/);
  await look(page, "diagnostics-sentences");
  await expect(page.getByText('"memory_total"')).toHaveCount(0);
  await page.getByRole("button", { name: "Show state as JSON" }).click();
  await expect(page.getByRole("region", { name: "state as JSON, text" })).toContainText('"memory_total"');
  await page.getByRole("button", { name: "Show whole log" }).click();
  await expect(page.getByRole("region", { name: "whole log, text" })).toContainText("guest started");
  const saved = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download state as JSON" }).click();
  expect((await saved).suggestedFilename()).toBe("state.json");
});

test("the quota stands before the form, and the refusal of a race says the same", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  const sentence = "You have 3 of 3 desktops. Terminate one to create another.";
  await page.goto("/app/?create=true");
  const form = page.getByRole("dialog", { name: "New desktop" });
  await expect(form.getByRole("textbox", { name: "Name" })).toBeVisible(slow);
  await expect(form.getByRole("radio")).toHaveCount(0);
  // Another client uses up the quota while the form is open; this page does not hear of it.
  const token = await page.evaluate(() => {
    for (const text of Object.values(localStorage)) {
      const found = /"access[^"]*":"([^"]+)"/.exec(String(text));
      if (found) return found[1];
    }
    return undefined;
  });
  expect(token, "the page's access token").toBeTruthy();
  await page.route("**/api/instances", async (route) => {
    if (route.request().method() !== "POST") return route.fallback();
    for (let n = 0; n < 2; n++)
      await page.request.post("/api/instances", { headers: { Authorization: `Bearer ${token}` }, data: {} });
    return route.continue();
  });
  await form.getByRole("textbox", { name: "Name" }).fill("Fourth");
  await form.getByRole("button", { name: "Create", exact: true }).click();
  await expect(form.getByRole("alert").or(form.getByRole("status"))).toContainText(sentence, slow);
  await page.unroute("**/api/instances");
  await page.goto("/app/");
  await expect(page.getByText(sentence)).toBeVisible(slow);
  await look(page, "quota-list");
  await page.getByRole("button", { name: "New desktop" }).click();
  await expect(form.getByText(sentence)).toBeVisible();
  await expect(form.getByRole("textbox")).toHaveCount(0);
  await expect(form.getByRole("list", { name: "Your desktops" }).getByRole("link")).toHaveCount(3);
  await look(page, "quota-dialog");
  await form.getByRole("link").first().click();
  await expect(page).toHaveURL(/\/about$/);
});
