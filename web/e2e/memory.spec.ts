// A chat that never forgets: what is there after a reload, a restart of the server, and a stop and start of the desktop.
import type { Page } from "@playwright/test";
import { expect, firstDesktop, look, signUp, stopDesktop, test } from "./fixtures";

const soon = { timeout: 60_000 };
const log = (page: Page) => page.getByRole("log");
const stop = (page: Page) => page.getByRole("button", { name: "Stop", exact: true });

const say = async (page: Page, text: string) => {
  const message = page.getByRole("textbox", { name: "Message to the agent" });
  await message.fill(text);
  await message.press("Enter");
};

/** Opens a chat with a failed answer and a denied tool. */
async function chatOf(page: Page) {
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  await say(page, "/error");
  await expect(log(page)).toContainText("answered 529", soon);
  await expect(stop(page)).toHaveCount(0, soon);
  await say(page, "/approve");
  await page.getByRole("button", { name: "Deny" }).click(soon);
  await expect(log(page)).toContainText("You denied it", soon);
  await expect(stop(page)).toHaveCount(0, soon);
}

/** The failed answer is followed by its error, once, and the denied tool is not a failed one. */
async function remembered(page: Page) {
  await expect(log(page)).toHaveText(
    /This begins well enough,.*The model's provider answered 529.*Denied.*You denied it/s,
    soon,
  );
  await expect(log(page).getByText("answered 529")).toHaveCount(1);
  await expect(log(page).getByRole("article", { name: "You" }).filter({ hasText: "/error" })).toHaveCount(1);
}

async function startSlowAnswer(page: Page) {
  await say(page, "/slow");
  await expect(log(page)).toContainText("This is sentence 2 of", soon);
}

async function stopAndStart(page: Page) {
  await stopDesktop(page);
  await page
    .getByRole("button", { name: /^Start/ })
    .first()
    .click(soon);
}

test("errors, denials and the answer in progress are there after a reload", async ({ page }, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await chatOf(page);
  await startSlowAnswer(page);
  await page.reload();
  await remembered(page);
  await expect(log(page)).toContainText("This is sentence 2 of", soon);
  await stop(page).click(soon);
  await expect(log(page)).toContainText("This answer was stopped.", soon);
  await page.reload();
  await expect(log(page)).toContainText("This answer was stopped.", soon);
  await remembered(page);
});

// A local desktop survives a server that was killed. An orderly end of the server ends it, as a stop does.
for (const [signal, words] of [
  ["SIGKILL", "This is sentence 60 of sixty"],
  ["SIGTERM", "Interrupted: this answer is not complete."],
] as const)
  test(`they are there after the server's ${signal} and start`, async ({ page, server }, info) => {
    await signUp(page, info);
    await firstDesktop(page);
    await chatOf(page);
    await startSlowAnswer(page);
    await server.end(signal);
    await server.run();
    await expect(log(page)).toContainText(words, { timeout: 120_000 });
    await expect(log(page)).toContainText("This is sentence 1 of sixty");
    await remembered(page);
    await page.reload();
    await remembered(page);
    await expect(log(page)).toContainText("This is sentence 1 of sixty", soon);
  });

test("they are there after a stop and start of the desktop, and the half answer says that it is one", async ({
  page,
}, info) => {
  await signUp(page, info);
  await firstDesktop(page);
  await chatOf(page);
  await startSlowAnswer(page);
  await stopAndStart(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true, ...soon });
  await remembered(page);
  await expect(log(page)).toContainText("This is sentence 2 of", soon);
  await expect(log(page)).toContainText("Interrupted: this answer is not complete.", soon);
  await expect(stop(page)).toHaveCount(0);
  await look(page, "chat-interrupted");
});

test("an agent that restarted does not run a message twice", async ({ page }, info) => {
  let deaf = false; // the page gets no answers
  const sent: string[] = [];
  await page.routeWebSocket(/\/cloudbot$/, (socket) => {
    const server = socket.connectToServer();
    socket.onMessage((text) => {
      const { method, params } = JSON.parse(String(text)) as { method: string; params: { message?: string } };
      if (method === "chat.send") sent.push(String(params.message));
      server.send(text);
    });
    server.onMessage((text) => {
      if (!deaf) socket.send(text);
    });
  });
  await signUp(page, info);
  await firstDesktop(page);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  await page.getByRole("button", { name: /^New chat/ }).click();
  await say(page, "first");
  await expect(log(page)).toContainText("You said: “first”", soon);
  await expect(stop(page)).toHaveCount(0, soon);

  deaf = true;
  await say(page, "only once");
  await expect.poll(() => sent, soon).toContain("only once");
  await page.getByRole("button", { name: /^Chat: / }).click();
  await page.getByRole("menuitemradio", { name: /^Main/ }).click();
  await stopAndStart(page);
  deaf = false;
  const waiting = () => page.evaluate(() => Object.keys(localStorage).filter((k) => k.startsWith("cloudbot.outbox:")));
  await expect.poll(waiting, { timeout: 120_000 }).toEqual([]);
  await page.getByRole("radio", { name: "Chat only" }).check({ force: true });
  await page.getByRole("button", { name: /^Chat: / }).click();
  await page.getByRole("menuitemradio", { name: /^first/ }).click();
  await expect(log(page).getByText("only once", { exact: true })).toHaveCount(1, soon);
  await page.reload();
  await expect(log(page).getByText("only once", { exact: true })).toHaveCount(1, soon);
});
