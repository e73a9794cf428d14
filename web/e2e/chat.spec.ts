import { expect, firstDesktop, look, signUp, test } from "./fixtures";
import { Agent } from "./gateway";
import type { Locator, Page } from "@playwright/test";

const say = async (page: Page, text: string) => {
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill(text);
  await message.press("Enter");
};

test("tools, approvals, questions and stopped answers are shown in the chat", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  const log = page.getByRole("log");

  // Tools are shown while they run.
  await say(page, "/tool");
  await expect(log.getByText("done", { exact: false }).first()).toBeVisible({ timeout: 60_000 });
  await expect(log.getByText("failed", { exact: false }).first()).toBeVisible();
  await expect(log).toContainText("Nothing was run");
  // Each tool is shown between the texts before and after it, also in the history.
  const inOrder =
    /The first lists the desktop's files\..*exec.*The second looks for a file that is not there\..*read.*That is all/s;
  await expect(log).toHaveText(inOrder);
  await look(page, "chat-tools");
  await page.reload();
  await expect(log).toHaveText(inOrder);

  // The agent asks before it acts; the user answers in place.
  await say(page, "/approve");
  await expect(page.getByRole("button", { name: "Allow once" })).toBeVisible({ timeout: 60_000 });
  await look(page, "chat-approval");
  await page.reload(); // another connection may answer, too
  await page.getByRole("button", { name: "Allow once" }).click();
  await expect(page.getByRole("button", { name: "Allow once" })).toHaveCount(0);
  await expect(page.getByRole("textbox", { name: /message/i })).toBeFocused();
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });

  // The agent asks a question.
  await say(page, "/ask");
  await expect(page.getByRole("radio").nth(3)).toBeVisible({ timeout: 60_000 });
  await look(page, "chat-question");
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });

  // A long answer is stopped at the agent, and stays stopped after a reload.
  await say(page, "/slow");
  await expect(page.getByRole("button", { name: "Stop" })).toBeVisible();
  await expect(log).toContainText(/\w+ \w+ \w+/);
  await page.reload(); // another connection may stop it, too
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });
  await say(page, "/markdown");
  await expect(log.locator("pre code").first()).toBeVisible({ timeout: 60_000 });
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });
  await page.reload();
  await expect(log.locator("pre code").first()).toBeVisible({ timeout: 60_000 });
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0);
  await look(page, "chat-markdown");
});

test("what is typed while a new chat is on its way does not go to the chat before it", async ({ page }, info) => {
  let release: (() => void) | undefined;
  let hold = false;
  await page.routeWebSocket(/\/cloudbot$/, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((frame) => {
      if (!hold || !String(frame).includes('"sessions.create"')) return server.send(frame);
      hold = false;
      release = () => server.send(frame);
    });
  });
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  const log = page.getByRole("log");
  await say(page, "the first chat");
  await expect(log).toContainText("You said: “the first chat”");
  hold = true;
  await page.getByRole("button", { name: /^New chat/ }).click();
  const message = page.getByRole("textbox", { name: /message/i });
  await expect(message).not.toBeEditable();
  await message.focus();
  await page.keyboard.type("too early");
  await page.keyboard.press("Enter");
  release!();
  await say(page, "the second chat"); // waits until the field can be edited
  await expect(log).toContainText("You said: “the second chat”");
  await expect(log).not.toContainText("the first chat");
  await page.getByRole("button", { name: /^Chat: / }).click();
  await page.getByRole("menuitemradio", { name: /^Main/ }).click();
  await expect(log).toContainText("You said: “the first chat”");
  await expect(log).not.toContainText("too early");
});

test("chats can be created, renamed, switched and deleted", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  const log = page.getByRole("log");
  await say(page, "the first chat");
  await expect(log).toContainText("You said: “the first chat”", { timeout: 60_000 });
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });

  await page.getByRole("button", { name: /^New chat/ }).click();
  await expect(log).not.toContainText("the first chat");
  await expect(page.getByRole("textbox", { name: /message/i })).toBeFocused();
  await say(page, "the second chat");
  await expect(log).toContainText("You said: “the second chat”", { timeout: 60_000 });
  await expect(page.getByRole("button", { name: "Stop" })).toHaveCount(0, { timeout: 60_000 });

  await page.getByRole("button", { name: "More actions for this chat" }).click();
  await page.getByRole("menuitem", { name: "Rename…" }).click();
  await page.getByRole("textbox", { name: "Name" }).fill("Second thoughts");
  await page.keyboard.press("Enter");
  const chooser = page.getByRole("button", { name: /^Chat: / });
  await expect(chooser).toHaveText("Second thoughts");

  // The chat is still open after a reload, and after leaving the page and returning.
  await page.reload();
  await expect(log).toContainText("You said: “the second chat”");
  await expect(chooser).toHaveText("Second thoughts");
  const steps = await page.evaluate(() => history.length);
  await page.getByRole("link", { name: "Back to desktops" }).click();
  await expect(page.getByRole("link", { name: /^Open/ })).toBeVisible();
  await page.goBack();
  await expect(chooser).toHaveText("Second thoughts");
  await expect(log).toContainText("You said: “the second chat”");

  await chooser.click();
  await page.getByRole("menuitemradio", { name: /^Main/ }).click();
  await expect(log).toContainText("the first chat");
  await expect(log).not.toContainText("the second chat");
  await expect(page).not.toHaveURL(/chat=agent/);
  expect(await page.evaluate(() => history.length)).toBe(steps + 1); // one step for the page that was left; switching chats adds none

  // The list shows that another chat is being answered, until the answer ends.
  await say(page, "/slow");
  await expect(log).toContainText("This is sentence 1");
  await chooser.click();
  await page.getByRole("menuitemradio", { name: /^Second thoughts/ }).click();
  await expect(log).toContainText("the second chat");
  await chooser.click();
  await expect(page.getByRole("menuitemradio", { name: /^Main/ })).toContainText("being answered");
  await page.getByRole("menuitemradio", { name: /^Main/ }).click();
  await expect(log).toContainText("This is sentence 2");
  await page.getByRole("button", { name: "Stop" }).click();
  await chooser.click();
  await page.getByRole("menuitemradio", { name: /^Second thoughts/ }).click();
  await expect(log).toContainText("the second chat");

  await page.getByRole("button", { name: "More actions for this chat" }).click();
  await page.getByRole("menuitem", { name: "Delete…" }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Delete" }).click();
  await expect(log).toContainText("the first chat");
  await chooser.click();
  await expect(page.getByRole("menuitemradio", { name: /^Second thoughts/ })).toHaveCount(0);
});

/** The log's scroll position and its distance from the end. */
const stands = (log: Locator) =>
  log.evaluate((l) => ({ top: l.scrollTop, below: l.scrollHeight - l.scrollTop - l.clientHeight }));
const topOf = (page: Page, text: string) =>
  page
    .getByRole("log")
    .getByText(text, { exact: true })
    .evaluate((e) => e.getBoundingClientRect().top);

test("reading a long chat is not disturbed by new messages", async ({ page }, info) => {
  const agent = await Agent.of(page, 250);
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  const log = page.getByRole("log");
  await expect(log).toContainText("249");
  expect((await stands(log)).below).toBeLessThan(2);

  // Earlier messages are added above the visible ones, which stay in place, even while an answer arrives.
  agent.chat("delta", 1, { deltaText: "Once upon a time. " });
  await log.evaluate((l) => (l.scrollTop = 0));
  const before = await topOf(page, "190");
  const earlier = page.getByRole("button", { name: "Show earlier messages" });
  await earlier.click();
  await expect(log.getByText("150", { exact: true })).toBeAttached();
  expect(await topOf(page, "190")).toBeCloseTo(before, 0);
  await expect(earlier).toBeEnabled();
  await earlier.dispatchEvent("click"); // without scrolling to it first
  await expect(log.getByText("100", { exact: true })).toBeAttached();
  await expect(earlier).toBeEnabled();
  expect(await topOf(page, "190")).toBeCloseTo(before, 0);
  expect(await log.getByText("150", { exact: true }).count()).toBe(1);

  // The reader scrolls without wheel or key, and streamed text does not move the log.
  await log.evaluate((l) => (l.scrollTop -= 200));
  const { top } = await stands(log);
  for (let seq = 2; seq < 12; seq++) agent.chat("delta", seq, { deltaText: `There was line ${seq}.\n\n` });
  await expect(log).toContainText("There was line 11");
  expect((await stands(log)).top).toBe(top);
  expect(await topOf(page, "190")).toBeCloseTo(before + 200, 0);

  // A sent message is visible.
  await say(page, "My own words");
  await expect(log.getByText("My own words")).toBeInViewport();
  await expect.poll(async () => (await stands(log)).below).toBeLessThan(2);
  expect(agent.sent).toEqual(["My own words"]);

  // A picture in an answer is shown.
  const dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  agent.chat("final", 12, {
    message: {
      content: [
        { type: "text", text: "Once upon a time. The end." },
        { type: "image", mimeType: "image/png", data: dot, alt: "A green dot" },
      ],
    },
  });
  await expect
    .poll(() => page.getByRole("img", { name: "A green dot" }).evaluate((i) => (i as HTMLImageElement).naturalWidth))
    .toBe(1);
});

test("on a phone Enter starts a new line, and the button sends", async ({ browser, server }, info) => {
  const phone = await browser.newContext({
    baseURL: server.url,
    viewport: { width: 390, height: 700 },
    hasTouch: true,
    isMobile: true,
  });
  const page = await phone.newPage();
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  const message = page.getByRole("textbox", { name: /message/i });
  await message.fill("one");
  await message.press("Enter");
  await message.pressSequentially("two");
  await expect(message).toHaveValue("one\ntwo");
  await page.getByRole("button", { name: "Send", exact: true }).tap();
  await expect(page.getByRole("log")).toContainText("You said: “one\ntwo”", { timeout: 60_000 });
  await phone.close();
});

test("a chat that is too long to keep whole shows what is hidden, and leads back to it", async ({ page }, info) => {
  await Agent.of(page, 1_150);
  await signUp(page, info);
  await firstDesktop(page);
  const log = page.getByRole("log");
  await expect(log).toContainText("1149");
  const earlier = page.getByRole("button", { name: "Show earlier messages" });
  for (let n = 0; n < 40 && (await earlier.count()) > 0; n++) {
    await expect(earlier).toBeEnabled();
    await earlier.dispatchEvent("click");
  }
  await expect(log.getByRole("article").first()).toHaveText(/^0\b/);
  await expect(log.getByRole("article").last()).toHaveText(/^999(?!\d)/);
  await expect(log.getByText("Newer messages are hidden. Jump to latest.")).toBeAttached();
  await page.getByRole("button", { name: "Jump to latest" }).click();
  await expect(log.getByText("1149", { exact: true })).toBeInViewport();
  await expect(log.getByText("Newer messages are hidden. Jump to latest.")).toHaveCount(0);
});
