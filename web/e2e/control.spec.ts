import type { Page } from "@playwright/test";
import { atRest, changed, keyboard, screen, settled } from "./desktop";
import { accessible, expect, firstDesktop, hasFocus, look, signUp, test } from "./fixtures";
import { Gate } from "./gate";

const say = async (page: Page, text: string) => {
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill(text);
  await message.press("Enter");
};
const fullScreen = async (page: Page) => {
  await page.getByRole("button", { name: "Full screen", exact: true }).click();
  await expect.poll(() => page.evaluate(() => document.fullscreenElement?.ariaLabel)).toMatch(/^Desktop of /);
};
/** What the full-screen element shows: the rest of the page is behind it. */
const desktop = (page: Page) => page.getByRole("region", { name: /^Desktop of / });
const take = (page: Page) => page.getByRole("button", { name: "Take control" });
const giveBack = (page: Page) => page.getByRole("button", { name: "Give back control" });

test("approvals and questions are answered in full screen, by keyboard and by mouse", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const card = desktop(page).getByRole("region", { name: "Your answer" });
  const aside = desktop(page).getByRole("button", { name: "Your answer is needed" });
  await say(page, "/approve");
  await expect(page.getByRole("button", { name: "Allow once" })).toBeVisible();
  await expect(card).toHaveCount(0); // the chat beside the desktop has it
  await fullScreen(page);
  await expect(card.getByText(/ left$/)).toHaveCount(1);
  await accessible(page, "an approval in full screen");

  // By keyboard: out of the desktop, which takes all other keys, and to the buttons.
  await screen(page).click();
  await expect(card).toContainText("press Ctrl + Alt + Shift");
  await page.keyboard.press("Control+Alt+Shift");
  await expect(desktop(page).getByRole("group", { name: "Messages over the desktop" })).toBeFocused();
  const before = await atRest(page);
  await page.keyboard.press("Tab");
  await expect(card.getByRole("button", { name: "Make this smaller" })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(card).toHaveCount(0);
  await hasFocus(page);
  await page.keyboard.press("Tab");
  await expect(aside).toBeFocused();
  await page.keyboard.press("Enter");
  await hasFocus(page);
  await expect(async () => {
    await page.keyboard.press("Tab");
    await expect(card.getByRole("button", { name: "Allow once" })).toBeFocused({ timeout: 100 });
  }).toPass();
  await page.keyboard.press("Enter");
  await expect(card).toHaveCount(0);
  await expect(page.getByRole("log")).toContainText("You allowed it");
  await hasFocus(page);
  expect((await atRest(page)) === before, "the screen, which got none of these keys, is unchanged").toBe(true);

  // By mouse: a question that comes during full screen.
  await page.evaluate(() => document.exitFullscreen());
  await say(page, "/ask");
  await fullScreen(page);
  await card.getByRole("radio", { name: /^Green/ }).check();
  await card.getByRole("button", { name: "Do not answer" }).click();
  await expect(card).toHaveCount(0);
  await expect(page.getByRole("log")).toContainText("You did not answer");
});

test("taking control is offered, and is given back from any tab", async ({ page, context }, info) => {
  const gate = new Gate();
  await gate.before(page);
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  const offer = desktop(page).getByRole("button", { name: "Not now" });
  const acts = page.getByRole("status").filter({ hasText: "The agent is using the desktop" });
  await expect(take(page)).toBeVisible();
  await screen(page).click();
  await expect(offer).toHaveCount(0);

  // A click while the agent acts takes nothing.
  await gate.act("start");
  await expect(acts).toBeVisible();
  await screen(page).click();
  await expect(offer).toBeVisible();
  await expect(keyboard(page)).toBeFocused();
  expect(gate.asked).toEqual([]);
  await look(page, "control-offered");
  await offer.click();
  await expect(offer).toHaveCount(0);
  await hasFocus(page);
  await screen(page).click();
  await expect(offer).toHaveCount(0);

  // A machine that does not answer.
  gate.silent = true;
  await take(page).click();
  await expect(desktop(page).getByText("Taking control…")).toBeVisible();
  await expect(desktop(page).getByRole("alert")).toContainText("mouse and keyboard are still shared. Try again.", {
    timeout: 60_000,
  });
  gate.silent = false;

  // The words say what goes on, and what stops it.
  await take(page).click();
  await expect(page.getByText("You have control.").first()).toBeVisible();
  await expect(desktop(page)).toContainText("The agent's next use of the computer is refused");
  gate.leased = false;
  await gate.hold();
  await expect(desktop(page)).toContainText("You hold mouse and keyboard. The agent's commands and its browser go on.");
  await desktop(page).getByRole("button", { name: "Stop the run" }).click();
  await expect.poll(() => gate.stopped).toEqual([{ sessionKey: "agent:main:main", runId: "elsewhere" }]);
  await gate.end();
  await expect(page.getByRole("button", { name: "Stop the run" })).toHaveCount(0);

  // Shortly before the end, a movement of the mouse keeps control.
  await gate.hold(25_000);
  await expect(desktop(page)).toContainText(/Going back to the agent in \d+ s/);
  await look(page, "control-ending");
  const asked = gate.asked.length;
  await screen(page).hover({ position: { x: 50, y: 60 } });
  await screen(page).hover({ position: { x: 90, y: 60 } });
  await expect(page.getByText(/Going back to the agent in/)).toHaveCount(0, { timeout: 30_000 });
  expect(gate.asked.slice(asked)).toEqual(["cloudbot.control.take"]);

  // Another tab has it too, and gives it back.
  const other = await context.newPage();
  await gate.before(other);
  await other.goto(page.url());
  await expect(giveBack(other).first()).toBeVisible({ timeout: 60_000 });
  await giveBack(other).first().click();
  await expect(page.getByText("You have control.")).toHaveCount(0);
  await expect(take(other)).toBeVisible();
  await page.bringToFront();
  await expect(take(page)).toBeVisible();
  await expect(page.getByText(/after 2 minutes without input/)).toHaveCount(0);

  // A user who only views has no use for it.
  await page.getByRole("button", { name: "View only" }).click();
  await expect(take(page)).toHaveCount(0);
});

test("an idle user's control goes back to the agent, which full screen shows too", async ({ page }, info) => {
  const gate = new Gate();
  await gate.before(page);
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  await fullScreen(page);
  await gate.hold(3_000);
  await expect(giveBack(page).first()).toBeVisible();
  await expect(desktop(page)).toContainText(/Going back to the agent in \d s/);
  await gate.free();
  const note = page.getByText("Control went back to the agent after 2 minutes without input.");
  await expect(note).toBeVisible();
  // Within the full-screen element: all else is inert.
  await desktop(page).getByRole("region", { name: "Notifications" }).getByRole("button", { name: "Close" }).click();
  await expect(note).toHaveCount(0);
  await accessible(page, "control went back");
});

test("the demo waits while the user has control, and goes on afterwards", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await settled(page);
  await expect(take(page)).toBeVisible({ timeout: 60_000 });
  await say(page, "/demo");
  await expect(page.getByRole("status").filter({ hasText: "The agent is using the desktop" })).toBeVisible({
    timeout: 30_000,
  });
  await take(page).click();
  await expect(page.getByText("You have control.").first()).toBeVisible();
  const held = await atRest(page);
  await expect(page.getByRole("log")).toContainText(/you (still )?have the mouse and keyboard/i, { timeout: 30_000 });
  expect((await atRest(page)) === held, "the screen is unchanged while the user has control").toBe(true);
  await expect(page.getByRole("button", { name: "Allow once" })).toHaveCount(0);
  await giveBack(page).first().click();
  await expect(page.getByText("You have control.")).toHaveCount(0);
  await changed(page, held);
  await page.getByRole("button", { name: "Deny" }).click({ timeout: 60_000 });
  await expect(page.getByRole("button", { name: "Stop", exact: true })).toHaveCount(0, { timeout: 30_000 });
  await expect(page.getByText("The agent is using the desktop")).toHaveCount(0);
});
